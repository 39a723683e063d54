"""What is said of a run once it has ended: the exit code, the report, broken promises."""
