"""The local stack of `coordinator up`: server, work pool, deployments, automations, and a worker that runs graphs."""
