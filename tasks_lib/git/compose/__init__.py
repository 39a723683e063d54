"""Composes the commits that land, in memory."""
