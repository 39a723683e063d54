"""Looks at what agents committed and at what worktrees hold; changes nothing."""
