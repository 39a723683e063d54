"""The repository that a run uses: its configuration, graph, agent instructions and child environments."""
