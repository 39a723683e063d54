"""Opens a run, schedules its nodes, and closes it."""
