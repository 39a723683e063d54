"""The merge queue: verifying candidates, following the base, publishing."""
