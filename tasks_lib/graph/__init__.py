"""The graph of nodes: its order, which nodes may start, how long a run takes, and drawings of it."""
