"""Carries branches and worktrees between the machine of a run and those of its sessions, through a git remote."""
