"""The prompts for agents, and their templates."""
