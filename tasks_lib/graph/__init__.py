"""The graph of nodes: its order, what may start next, how long it takes, how it is drawn."""
