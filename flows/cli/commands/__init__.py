"""The implementation of each command; `flows.cli.app` only parses the arguments."""
