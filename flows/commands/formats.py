"""Names what a graph can be drawn as."""

from enum import StrEnum


class Format(StrEnum):
    """The value is what stands behind `--format`."""

    DOT = "dot"
    MERMAID = "mermaid"
    SVG = "svg"
