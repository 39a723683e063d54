"""`coordinator.yaml`: its schema, and reading it with every error reported at once."""
