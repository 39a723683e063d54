"""One attempt at a node, from its worktree to its end."""
