"""Decisions about an agent's session, without IO: its state, the next action, how a turn ended, what was spent."""
