"""Lands finished work: the merge queue, verifying candidates, following the base, publishing."""
