"""The arguments and options that several commands have, and those that take several lines to describe."""

from pathlib import Path
from typing import Annotated

import typer

Repo = Annotated[
    Path,
    typer.Argument(
        help="Path to the repository (default: the current directory).", show_default=False, resolve_path=True
    ),
]
RepoOption = Annotated[
    Path,
    typer.Option(
        "--repo",
        help="Path to the repository (default: the current directory).",
        show_default=False,
        resolve_path=True,
    ),
]
Node = Annotated[str, typer.Argument(help="The node's id.", show_default=False)]
BlockedNode = Annotated[
    str, typer.Argument(help="The blocked node's id, or that of its resolve file.", show_default=False)
]
Guidance = Annotated[
    list[str] | None, typer.Argument(help="What its agent needs to know (optional).", show_default=False)
]
DemoDirectory = Annotated[
    Path | None,
    typer.Option("--directory", help="A new directory for the demo (default: in coordinator's data directory)."),
]
OptionalNode = Annotated[str, typer.Argument(help="A node's id (default: whole runs).", show_default=False)]
ReportedRun = Annotated[
    str,
    typer.Argument(metavar="[RUN]", help="A run's id, or its beginning (default: the last run).", show_default=False),
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=200, help="Maximum number of rows.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
HERE = Path()
