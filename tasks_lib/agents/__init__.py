"""Talks to coding agents: one Protocol, and a backend for each way of reaching an agent."""
