"""The command line: reads arguments, calls what does the work, turns errors into sentences and exit codes."""

if __name__ == "__main__":
    # Python, started with `-m`, looks for modules in the current directory first, before those of its own library.
    from coordinator_start import leave_the_current_directory

    leave_the_current_directory()

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.commands.option_values import UP_PORT, DemoBackend, Format, PromptKind
from tasks_lib.errors import BusyError, CoordinatorError, InputError
from tasks_lib.model import NoticeLevel

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="coordinator",
    help="Works a graph of coding tasks with agents in parallel, and lands only what passed verify as merged.",
    epilog="Exit codes: 0 all is well; 1 something is blocked or failed; 2 the input cannot be used, and nothing was "
    "started; 3 nothing failed, but a person is waited for; 130 interrupted, with everything saved.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
Repo = Annotated[
    Path,
    typer.Argument(help="The repository; the current directory by default.", show_default=False, resolve_path=True),
]
RepoOption = Annotated[
    Path,
    typer.Option(
        "--repo", help="The repository; the current directory by default.", show_default=False, resolve_path=True
    ),
]
Node = Annotated[str, typer.Argument(help="The id of the node.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
HERE = Path()
ACTING = ("run", "demo", "cleanup", "abort", "message", "up", "init", "notify")
"""Commands whose exit code says what was done, and not whether it could be printed."""


# Each command imports what it needs when it is called: agents call `notify` often, and it needs next to nothing.
def make_console() -> "Console":
    """The console that a command prints to."""
    from flows.cli.display.progress_table import make_console as make

    return make()


@app.callback()
def coordinator() -> None:
    """Take the options that every command has; there are none yet."""


@app.command()
def init(repo: Repo = HERE) -> int:
    """Write a configuration and an example task to begin with."""
    from flows.cli.commands.init import init_repository

    return init_repository(repo, make_console())


@app.command()
def validate(
    repo: Repo = HERE,
    head: Annotated[bool, typer.Option("--head", help="Read what is committed and landed, not the checkout.")] = False,
    json: Json = False,
) -> int:
    """Name every fault of configuration and task files at once."""
    from flows.cli.commands.validate import validate_repository

    return validate_repository(repo, at_head=head, as_json=json, console=make_console())


@app.command()
def plan(repo: Repo = HERE, json: Json = False) -> int:
    """Say what can be worked together and what would start now."""
    from flows.cli.commands.plan import show_plan

    return show_plan(repo, as_json=json, console=make_console())


@app.command()
def graph(
    repo: Repo = HERE,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="What to draw; by default as the output is named, else dot.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; standard output by default.")
    ] = None,
    json: Json = False,
) -> int:
    """Draw the graph, coloured by what the last run made of it."""
    from flows.cli.commands.graph import show_graph

    return show_graph(repo, form, output, as_json=json, console=make_console())


@app.command()
def prompt(
    task: Annotated[str, typer.Argument(help="The id of the task.", show_default=False)],
    kind: Annotated[PromptKind, typer.Option("--kind", help="Of its worker, or of its branch's reviewer.")] = (
        PromptKind.TASK
    ),
    repo: RepoOption = HERE,
    json: Json = False,
) -> int:
    """Show what an agent would be told next; nothing is started."""
    from flows.cli.commands.prompt import show_prompt

    return show_prompt(repo, task, kind, as_json=json)


@app.command()
def doctor(
    repo: Repo = HERE,
    audit: Annotated[bool, typer.Option("--audit", help="Judge instead what runs have left and reported.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="With --audit: run `verify` again on what landed.")] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="With --audit: commits; 1000, or 10 to verify.", show_default=False),
    ] = None,
    json: Json = False,
) -> int:
    """Check that a run has all it needs, or say how to mend it; with --audit, that runs kept their promises."""
    from flows.cli.commands.audit import audit_repository, check_options
    from flows.cli.commands.doctor import examine

    check_options(is_audit=audit, is_verify=verify, limit=limit)
    if audit:
        return audit_repository(repo, is_verify=verify, limit=limit, as_json=json, console=make_console())
    return examine(repo, as_json=json, console=make_console())


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
    from flows.cli.commands.run import run_repository

    return run_repository(repo, only or [], max_sessions, is_dry_run=dry_run, port=port, console=make_console())


@app.command()
def status(
    repo: Repo = HERE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep looking until the run ends.")] = False,
    json: Json = False,
) -> int:
    """Say how a run stands, or how the last one ended."""
    from flows.cli.commands.status import show_status

    return show_status(repo, is_watched=watch, as_json=json, console=make_console())


# A text may well start with a dash.
@app.command(context_settings={"ignore_unknown_options": True})
def message(
    node: Node,
    text: Annotated[list[str], typer.Argument(help="What its agent is told.", show_default=False)],
    repo: RepoOption = HERE,
    json: Json = False,
) -> int:
    """Say something to the agent that works a node of the run that is going on."""
    from flows.cli.commands.message import send_message

    return send_message(repo, node, " ".join(text), as_json=json, console=make_console())


@app.command()
def abort(
    nodes: Annotated[list[str] | None, typer.Argument(help="The nodes to end.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Stop the whole run, as Ctrl-C does.")] = False,
    repo: RepoOption = HERE,
    json: Json = False,
) -> int:
    """End nodes of the run that is going on, keeping their work; the others go on."""
    from flows.cli.commands.abort import abort as end

    return end(repo, nodes or [], is_all=everything, as_json=json, console=make_console())


@app.command()
def attach(node: Node, repo: RepoOption = HERE) -> int:
    """Print the line that opens a node's session in the agent's own terminal interface."""
    from flows.cli.commands.attach import print_attach

    return print_attach(repo, node)


@app.command()
def logs(
    node: Node,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the run ends.")] = False,
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, help="Of this attempt; else the newest.")] = None,
    setup: Annotated[bool, typer.Option("--setup", help="What `setup` printed.")] = False,
    review: Annotated[bool, typer.Option("--review", help="What the reviewer's session said.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="What `verify` printed.")] = False,
    names: Annotated[bool, typer.Option("--list", "-l", help="Only name the logs there are.")] = False,
    repo: RepoOption = HERE,
    json: Json = False,
) -> int:
    """Print what a node's session said, or another of its logs."""
    from flows.cli.commands.logs import choose_kind, show_logs

    kind = choose_kind(is_setup=setup, is_review=review, is_verify=verify)
    console = make_console()
    return show_logs(repo, node, kind, attempt, is_followed=follow, is_list=names, as_json=json, console=console)


@app.command()
def cleanup(
    repo: Repo = HERE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    restore: Annotated[
        str, typer.Option("--restore", help="Make a branch of a kept state: its ref, its task's id, or its commit.")
    ] = "",
    to: Annotated[str, typer.Option("--to", help="With --restore: the branch; by default restored/….")] = "",
    prune: Annotated[bool, typer.Option("--prune", help="Forget states that were kept long ago.")] = False,
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", min=0, help="With --prune: days; by default `kept_days`.", show_default=False),
    ] = None,
    json: Json = False,
) -> int:
    """Put away what killed runs left, and see to states that were kept; unlanded work always stays."""
    from flows.cli.commands.cleanup import check_options, clean_up
    from flows.cli.commands.kept_states import prune_kept, restore_kept

    check_options(restore=restore, to=to, is_prune=prune, older_than=older_than, is_dry_run=dry_run)
    if restore:
        return restore_kept(repo, restore, to, as_json=json, console=make_console())
    if prune:
        return prune_kept(repo, older_than, is_dry_run=dry_run, as_json=json, console=make_console())
    return clean_up(repo, is_dry_run=dry_run, as_json=json, console=make_console())


@app.command()
def up(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Its port; 0 takes a free one.")] = UP_PORT,
) -> int:
    """Keep Prefect's UI with its history running until Ctrl-C."""
    from flows.cli.commands.up import keep_up

    return keep_up(port, make_console())


@app.command()
def demo(
    directory: Annotated[
        Path | None,
        typer.Option("--directory", help="A new directory for it; by default among the coordinator's own data."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep/--no-keep", help="Keep the repository for looking around.")] = True,
    sessions: Annotated[int | None, typer.Option("--sessions", min=1, max=256, help="Agents at a time.")] = None,
    backend: Annotated[
        DemoBackend, typer.Option("--backend", help="Scripted agents, or real sessions of opencode with no real model.")
    ] = DemoBackend.COMMAND,
    opencode: Annotated[
        Path | None, typer.Option("--opencode", help="The opencode to run, by default the one on PATH.")
    ] = None,
) -> int:
    """Watch scripted agents work a small repository."""
    from flows.cli.commands.demo import run_demo

    console = make_console()
    return run_demo(directory, sessions, is_kept=keep, console=console, backend=backend.value, opencode=opencode)


# A text may well start with a dash: agents write lists.
@app.command(context_settings={"ignore_unknown_options": True})
def notify(
    text: Annotated[list[str], typer.Argument(help="What to report.", show_default=False)],
    level: Annotated[
        NoticeLevel, typer.Option("--level", help="`blocking` ends the attempt: a person, or more context, is needed.")
    ] = NoticeLevel.INFO,
) -> None:
    """For agents: report something about the task at hand."""
    from flows.cli.commands.notify import notify as write_down

    write_down(Path.cwd(), level, " ".join(text))


def main() -> None:
    """Run the command line; expected failures are said on standard error, without a traceback."""
    from flows.standard_streams import close_output, make_streams_resilient

    make_streams_resilient()
    try:
        code = call()
    except Exception:  # Nobody expected it; what is said of it must be written before the streams are closed.
        traceback.print_exc()
        code = 1
    if (lost := close_output()) and code == 0:
        print(f"standard output: {lost.strerror or lost}", file=sys.stderr)  # noqa: T201
        code = code if sys.argv[1:2] and sys.argv[1] in ACTING else 1
    if "prefect" in sys.modules:
        # At the interpreter's exit Prefect's threads would wait for a server that has gone, or for a limit, for ever.
        os._exit(code)
    sys.exit(code)


def call() -> int:
    """The exit code of the command that was asked for. Every signal that ends it closes what is open."""
    from flows.termination_signals import on_signals, raise_ended

    with on_signals(raise_ended):
        try:
            code = app(standalone_mode=False)
        except typer.Exit as left:
            code = left.exit_code
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except (Exception, KeyboardInterrupt) as error:
            code = explain(error)
    return int(code or 0)


def explain(error: BaseException) -> int:
    """Say what went wrong, in sentences, and choose the exit code; raises again what nobody expected."""
    from tasks_lib.reporting.run_report import ExitCode

    match error:
        case typer.Abort() | KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case InputError() | BusyError():
            print(error, file=sys.stderr)  # noqa: T201
            return ExitCode.BAD_INPUT
        case CoordinatorError():
            print(error, file=sys.stderr)  # noqa: T201
            return ExitCode.BLOCKED
        case OSError():
            print(f"{error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)  # noqa: T201
            return ExitCode.BLOCKED
        case _ if hasattr(error, "show"):
            error.show()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
            return ExitCode.BAD_INPUT
        case _:
            raise error
