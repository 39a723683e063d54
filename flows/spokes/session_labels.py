"""The names of what a session and its run tell each other in Prefect."""

SESSION_FLOW = "run-session"
SESSION_DEPLOYMENT = "session"
ENTRYPOINT = "flows.spoke_worker.run_session.run_session"
PROGRESS, REPORT, PULSE = "coordinator.progress", "coordinator.report", "coordinator.pulse"
"""Labels of the session's flow run, which it replaces; Prefect's UI does not show them."""
MESSAGE_PREFIX = "coordinator-session-"
"""The start of the keys of inputs of the session's flow run, which its run creates."""
