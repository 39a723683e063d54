"""Values and types of command line options. Every command loads this module, so it imports nothing heavy."""

from enum import StrEnum
from typing import Annotated

import typer

from tasks_lib.model import NoticeLevel

UP_PORT = 4200
"""Default port of `coordinator up`."""
MAX_RUNS = 8
"""How many flow runs `coordinator up` executes at a time by default; each may have many sessions."""
UpPort = Annotated[
    int | None,
    typer.Option(
        "--port",
        min=0,
        max=65535,
        help=f"Port for the server; 0 picks a free one (default: {UP_PORT}, or the next that is free).",
    ),
]
PostgresUrl = Annotated[
    str,
    typer.Option(
        "--postgres",
        metavar="URL",
        envvar="COORDINATOR_UP_POSTGRES",
        help="Postgres database for the server's state (default: a file in the data directory).",
        show_default=False,
        show_envvar=True,
    ),
]
NoWorker = Annotated[
    bool, typer.Option("--no-worker", help="Only serve; leave due flow runs to workers that you start.")
]
MaxRuns = Annotated[int, typer.Option("--max-runs", min=1, max=256, help="Maximum number of flow runs at a time.")]

Detached = Annotated[bool, typer.Option("--detach", "-d", help="Return when it is ready; `coordinator down` ends it.")]
Spokes = Annotated[
    int, typer.Option("--spokes", min=0, max=16, help="Workers for sessions, each as on a machine of its own.")
]

Audited = Annotated[bool, typer.Option("--audit", help="Audit what past runs landed, left behind and reported.")]
VerifiedAgain = Annotated[
    bool,
    typer.Option("--verify", help="Try `verify` on the target's head; with --audit, again on landed commits."),
]
AuditLimit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=1,
        help="With --audit: how many commits to check (default: 1000, or 10 with --verify).",
        show_default=False,
    ),
]
OfSpoke = Annotated[bool, typer.Option("--spoke", help="Check this machine as one that runs sessions for others.")]
SpokeName = Annotated[
    str, typer.Option("--name", help="With --spoke: as in `spoke start` (default: the host name).", show_default=False)
]
SpokePool = Annotated[
    str,
    typer.Option("--pool", help="With --spoke: the work pool (default: coordinator-sessions).", show_default=False),
]


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


Level = Annotated[
    NoticeLevel,
    typer.Option(
        "--level",
        help="`blocking` ends the attempt: it needs a person or more context. `limit`: a provider limits requests; "
        "exit with 75 to be asked again.",
    ),
]
Until = Annotated[
    str, typer.Option("--until", help="With `limit`: when it ends, as 2026-11-27T10:00:00Z or seconds since 1970.")
]
MaxLandings = Annotated[
    int | None,
    typer.Option(
        "--max-landings",
        min=1,
        help="End after so many nodes have landed; the next run lands the rest.",
        show_default=False,
    ),
]
