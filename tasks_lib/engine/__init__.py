"""Opens a run, schedules its nodes, closes it."""
