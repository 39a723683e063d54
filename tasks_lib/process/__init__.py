"""Runs agents and the shell lines of `setup` and `verify` in process groups that end when their work ends."""
