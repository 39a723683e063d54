"""Hides opencode, version 1: its server, its configuration, its HTTP interface and its event stream."""
