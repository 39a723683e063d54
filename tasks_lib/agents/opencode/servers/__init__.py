"""opencode servers: coordinator's own processes in a pool, or one that the user runs."""
