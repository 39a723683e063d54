"""Commits, read and merged: branches, trees, messages, task files at a commit."""
