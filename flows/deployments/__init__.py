"""The deployments of coordinator's flows in Prefect: what there are, as values, and how they are applied."""
