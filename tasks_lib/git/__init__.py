"""The git adapter: worktrees, the head, merging and publishing, and the task files in commits."""
