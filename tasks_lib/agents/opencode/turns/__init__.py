"""An opencode session, one turn after another."""
