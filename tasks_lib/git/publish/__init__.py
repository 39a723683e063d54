"""Moves refs and checkouts to what landed: the queue, a local branch, a remote branch."""
