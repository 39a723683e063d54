"""Everything of Coordinator that is not Prefect: a pure core at the root, packages for the outside world below."""
