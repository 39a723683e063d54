"""Runs one attempt at a node, from opening its worktree to its outcome."""
