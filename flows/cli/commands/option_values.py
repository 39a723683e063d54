"""Names values of the command line's options; nothing is imported here, since every command waits for it."""

from enum import StrEnum

UP_PORT = 4200
"""Where `coordinator up` shows Prefect's UI unless it is told another port."""


class Format(StrEnum):
    """What a graph can be drawn as; the value is what stands behind `--format`."""

    DOT = "dot"
    MERMAID = "mermaid"
    SVG = "svg"


class DemoBackend(StrEnum):
    """What works the demo: its scripted agents, or sessions of a real opencode."""

    COMMAND = "command"
    OPENCODE = "opencode"


class PromptKind(StrEnum):
    """Which prompt to show: of whoever works a task, or of whoever reviews its branch."""

    TASK = "task"
    REVIEW = "review"
