"""Moves refs and checkouts to what landed: the queue's ref, a local branch, a remote branch."""
