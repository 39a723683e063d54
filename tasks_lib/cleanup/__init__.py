"""Finds, removes and audits what runs leave behind."""
