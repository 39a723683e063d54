"""The names of the labels that mark a flow run, for modules that do not import Prefect (`flow_run_marks.py`)."""

HOST, PID, STARTED = "coordinator.host", "coordinator.pid", "coordinator.started"
GIT_DIR, INODE = "coordinator.git_dir", "coordinator.inode"
MARKED = "coordinator.marked"
"""When the state began in which a process marked the run; missing in runs of earlier releases and of terminals."""
