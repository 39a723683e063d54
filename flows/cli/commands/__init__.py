"""What each command of the command line does; `flows.cli.app` only reads the arguments."""
