"""What each command of the command line does; `flows.cli` only reads the arguments."""
