"""Measures what the project promises, and prints the truth."""
