"""Inspects the commits of agents and the content of worktrees; changes neither."""
