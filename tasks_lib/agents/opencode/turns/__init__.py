"""A session of opencode, one turn after the other."""
