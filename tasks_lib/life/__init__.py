"""The life of a node and of a run, put together from the adapters; knows no Prefect."""
