"""Measures the project's performance promises, and prints the figures as they are."""
