"""The names of the labels that mark a flow run, for modules that do not import Prefect (`flow_run_marks.py`)."""

HOST, PID, STARTED = "coordinator.host", "coordinator.pid", "coordinator.started"
MACHINE = "coordinator.machine"
"""Tells apart machines with the same host name; missing in runs of earlier releases."""
GIT_DIR, INODE = "coordinator.git_dir", "coordinator.inode"
MARKED = "coordinator.marked"
"""When the state began in which a process marked the run; missing in runs of earlier releases and of terminals."""
