"""Servers of opencode: our own processes, a pool of them, or one that the user runs."""
