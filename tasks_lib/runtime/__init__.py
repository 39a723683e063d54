"""What the nodes of one run share while it is in progress."""
