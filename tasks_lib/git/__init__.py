"""The git adapter: worktrees, the head, merging and publishing, task files as git holds them."""
