"""What is reported about a run after its end: the exit code, the report, and what an audit finds."""
