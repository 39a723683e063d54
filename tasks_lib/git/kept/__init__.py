"""States kept at refs before anything is removed, and what has to be kept."""
