"""The command `coordinator spoke` with its own commands: parses arguments, and calls them."""

from typing import Annotated

import typer

from flows.cli.arguments import Json
from flows.cli.lazy_console import make_console

spoke = typer.Typer(
    help="Run sessions on this machine for runs on another one.", no_args_is_help=True, rich_markup_mode=None
)


# Every command loads this module, so it imports nothing heavy.
@spoke.command()
def add(
    url: Annotated[
        str, typer.Argument(help="The git remote that the runs name as `spokes.remote`.", show_default=False)
    ],
    name: Annotated[
        str, typer.Option("--name", help="Its name here (default: from the URL).", show_default=False)
    ] = "",
    target: Annotated[
        str, typer.Option("--target", help="The branch that work lands on (default: the remote's).", show_default=False)
    ] = "",
    json: Json = False,
) -> int:
    """Copy a repository to this machine, so that its sessions can run here."""
    from flows.cli.commands.spoke import add as add_to_registry

    return add_to_registry(url, name, target, as_json=json, console=make_console())


@spoke.command("list")
def list_repositories(json: Json = False) -> int:
    """List the repositories whose sessions can run here."""
    from flows.cli.commands.spoke import list_all

    return list_all(as_json=json, console=make_console())


@spoke.command()
def remove(
    name: Annotated[str, typer.Argument(help="The repository's name here.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Also if work of sessions is nowhere else.")] = False,
) -> int:
    """Remove a repository, its copy and its files from this machine."""
    from flows.cli.commands.spoke import remove as remove_from_registry

    return remove_from_registry(name, make_console(), is_forced=force)


@spoke.command()
def cleanup(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done.")] = False,
    json: Json = False,
) -> int:
    """Clean up after killed workers, and delete old logs and kept states, as `spoke start` does.

    What sessions left is kept at refs first.
    """
    from flows.cli.commands.spoke import clean_up

    return clean_up(is_dry_run=dry_run, as_json=json, console=make_console())


@spoke.command()
def start(
    name: Annotated[
        str, typer.Option("--name", help="This machine's name for runs (default: its host name).", show_default=False)
    ] = "",
    pool: Annotated[
        str, typer.Option("--pool", help="The work pool, as in `spokes.work_pool`.")
    ] = "coordinator-sessions",
) -> int:
    """Take sessions until Ctrl-C, which ends those that run and pushes their work."""
    from flows.cli.commands.spoke import start as start_worker

    return start_worker(name, pool, make_console())
