"""What is decided about a session, without IO: its state, the next action, how a turn ended, what was spent."""
