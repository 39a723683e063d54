"""Translates what opencode's server answers and streams."""
