"""`coordinator.yaml`: its schema, and reading it with every error named at once."""
