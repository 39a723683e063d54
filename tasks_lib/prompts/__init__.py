"""What agents are told, and the templates for it."""
