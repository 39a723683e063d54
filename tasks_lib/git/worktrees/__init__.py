"""Worktrees: opening, pooling, repairing, relinking and deleting them."""
