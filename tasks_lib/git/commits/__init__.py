"""Reads and merges commits: branch state, trees, messages, and the task files in a commit."""
