"""Run Claude Code and Codex as agents of the backend `command`: their options, and what their events say."""
