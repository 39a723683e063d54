"""Everything in Coordinator that does not need Prefect: a pure core, and packages that talk to the outside world."""
