"""A repository that is worked: its configuration, graph, instructions and environments."""
