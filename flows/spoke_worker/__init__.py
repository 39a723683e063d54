"""The worker of a spoke: takes sessions of runs on other machines from a Prefect work pool."""
