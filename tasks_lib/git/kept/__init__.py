"""Keeps states at refs before anything is removed, and finds out what has to be kept."""
