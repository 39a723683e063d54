"""The names of the labels that mark a flow run, for modules that do not import Prefect (`flow_run_marks.py`)."""

HOST, PID, STARTED = "coordinator.host", "coordinator.pid", "coordinator.started"
GIT_DIR, INODE = "coordinator.git_dir", "coordinator.inode"
