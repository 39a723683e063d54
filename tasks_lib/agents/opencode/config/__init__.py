"""What opencode is told: roles, permissions, shells, beside the user's own configuration."""
