"""What opencode gets from coordinator beside the user's own configuration: roles, permissions, shell environments."""
