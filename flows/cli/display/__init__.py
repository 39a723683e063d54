"""How the command line prints its output."""
