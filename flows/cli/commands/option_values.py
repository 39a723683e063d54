"""Values of command line options. Every command loads this module, so it imports nothing heavy."""

from enum import StrEnum

UP_PORT = 4200
"""Default port of `coordinator up`."""


class Format(StrEnum):
    """Output formats of `coordinator graph --format`."""

    DOT = "dot"
    MERMAID = "mermaid"
    SVG = "svg"


class DemoBackend(StrEnum):
    """What runs the demo's nodes: scripted agents, or real opencode sessions."""

    COMMAND = "command"
    OPENCODE = "opencode"


class PromptKind(StrEnum):
    """Which prompt to show: the one for the task, or the one for the review of its branch."""

    TASK = "task"
    REVIEW = "review"
