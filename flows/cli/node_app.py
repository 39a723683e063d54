"""The commands for one node while a run is in progress or after it: they speak to its agent, or decide for it."""

from typing import Annotated, Literal

import typer

from flows.cli.arguments import HERE, BlockedNode, Guidance, Json, Node, RepoOption
from flows.cli.lazy_console import make_console
from tasks_lib.model import PersonsWord

nodes = typer.Typer()


# A text may start with a dash.
@nodes.command(context_settings={"ignore_unknown_options": True})
def message(
    node: Node,
    text: Annotated[list[str], typer.Argument(help="The message for its agent.", show_default=False)],
    repo: RepoOption = HERE,
    json: Json = False,
) -> int:
    """Send a message to the agent of a running node."""
    from flows.cli.commands.message import send_message

    return send_message(repo, node, " ".join(text), as_json=json, console=make_console())


# A text may start with a dash.
@nodes.command(context_settings={"ignore_unknown_options": True})
def resolve(
    node: BlockedNode,
    text: Guidance = None,
    note: Annotated[str, typer.Option(help="The text, as an option.", show_default=False)] = "",
    repo: RepoOption = HERE,
    json: Json = False,
) -> int:
    """Resolve what blocks a node, so that it runs again.

    The text is committed in its resolve file, and is part of the next prompt for its agent.
    """
    from flows.cli.commands.resolve import resolve as complete

    said = " ".join(part for part in (note, *(text or [])) if part)
    return complete(repo, node, PersonsWord(said), as_json=json, console=make_console())


@nodes.command()
def retry(
    node: BlockedNode,
    role: Annotated[str, typer.Option(help="The role of its next agent; see `roles`.", show_default=False)] = "",
    model: Annotated[
        str, typer.Option(help="The model of its next agent, as provider/model.", show_default=False)
    ] = "",
    note: Annotated[str, typer.Option(help="What its next agent needs to know.", show_default=False)] = "",
    repo: RepoOption = HERE,
    json: Json = False,
) -> int:
    """Give a blocked node another attempt, with another role or model if you like.

    The role and the model are committed in its task file; the note is what `resolve` calls the text.
    """
    from flows.cli.commands.resolve import resolve as complete

    word = PersonsWord(note, role, model)
    return complete(repo, node, word, as_json=json, console=make_console())


@nodes.command()
def abort(
    nodes: Annotated[list[str] | None, typer.Argument(help="The nodes to abort.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Stop the whole run, as Ctrl-C does.")] = False,
    policy: Annotated[
        Literal["abort-dependents", "continue-running"],
        typer.Option(
            help="Whether to end also what is in progress in the run (--all), or what the nodes have spawned."
        ),
    ] = "abort-dependents",
    repo: RepoOption = HERE,
    json: Json = False,
) -> int:
    """Abort running nodes, or stop the whole run. Their work is kept."""
    from flows.cli.commands.abort import abort as end

    return end(repo, nodes or [], is_all=everything, policy=policy, as_json=json, console=make_console())


@nodes.command()
def take(
    node: Node,
    force: Annotated[bool, typer.Option("--force", help="Take it over from whoever has taken it.")] = False,
    repo: RepoOption = HERE,
    json: Json = False,
) -> int:
    """Take a task for a person: prepare its worktree, its branch and a brief."""
    from flows.cli.commands.take import take as prepare

    return prepare(repo, node, is_forced=force, as_json=json, console=make_console())


@nodes.command()
def land(node: Node, repo: RepoOption = HERE, json: Json = False) -> int:
    """Land your own work on a task, or verified work that waits for a person.

    In the current run if there is one, else in a run of its own.
    """
    from flows.importing import importing

    with importing():
        from flows.cli.commands.land import land as merge

    return merge(repo, node, as_json=json, console=make_console())


@nodes.command()
def attach(node: Node, repo: RepoOption = HERE) -> int:
    """Print the command that opens a node's session.

    It opens the session in the agent's own terminal interface.
    """
    from flows.cli.commands.attach import print_attach

    return print_attach(repo, node)
