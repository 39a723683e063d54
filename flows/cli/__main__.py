"""Runs the command line: `python -m flows.cli`."""

# With `-m`, Python looks for modules in the current directory before its own library; this `main` prevents that.
from coordinator_start.main import main

main()
