"""The command line: reads arguments, calls what does the work, turns errors into sentences and exit codes."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.progress import make_console
from tasks_lib.errors import BusyError, CoordinatorError, InputError
from tasks_lib.report import ExitCode

app = typer.Typer(
    name="coordinator",
    help="Works a graph of coding tasks with agents in parallel, and lands only what passed verify as merged.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Repo = Annotated[Path, typer.Argument(help="The repository; the current directory by default.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
HERE = Path()


@app.callback()
def coordinator() -> None:
    """Take the options that every command has; there are none yet."""


@app.command()
def run(
    repo: Repo = HERE,
    only: Annotated[list[str] | None, typer.Option("--only", help="Work only this node; repeatable.")] = None,
    max_sessions: Annotated[
        int | None, typer.Option("--max-sessions", min=1, max=256, help="Agents at a time.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would start, and why the rest waits.")
    ] = False,
    port: Annotated[int, typer.Option("--port", help="Port of Prefect's server; 0 takes a free one.")] = 0,
) -> int:
    """Work the graph: agents in parallel, each result verified as merged and landed."""
    from flows.commands.run import run_repository

    return run_repository(repo, only or [], max_sessions, is_dry_run=dry_run, port=port, console=make_console())


def main() -> None:
    """Run the command line; expected failures are said on standard error, without a traceback."""
    try:
        code = app(standalone_mode=False)
    except typer.Exit as left:
        code = left.exit_code
    except typer.Abort:
        code = ExitCode.INTERRUPTED
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except (InputError, BusyError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        code = ExitCode.BAD_INPUT
    except CoordinatorError as error:
        print(error, file=sys.stderr)  # noqa: T201
        code = ExitCode.BLOCKED
    except Exception as error:
        if not hasattr(error, "show"):
            raise
        error.show()  # pyright: ignore[reportAttributeAccessIssue]
        code = ExitCode.BAD_INPUT
    sys.exit(int(code or 0))


if __name__ == "__main__":
    main()
