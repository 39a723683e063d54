"""Prefect flows, and the command line: thin glue around `tasks_lib`."""
