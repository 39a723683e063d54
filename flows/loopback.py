"""The address of servers on this machine, for modules that must not import an HTTP client for it."""

LOOPBACK = "127.0.0.1"
