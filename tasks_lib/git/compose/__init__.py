"""Composes the commits to land, in memory."""
