"""What coordinator adds to the user's opencode configuration: roles, permissions, shell environments."""
