"""Runs programs in process groups that end with their work: agents, and the lines of `setup` and `verify`."""
