"""The commands and their options: parses arguments, and calls the commands."""

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.arguments import (
    HERE,
    DemoDirectory,
    Json,
    Limit,
    Node,
    OptionalNode,
    Repo,
    RepoOption,
    ReportedRun,
)
from flows.cli.commands.option_values import (
    Audited,
    AuditLimit,
    DemoBackend,
    Format,
    Level,
    MaxLandings,
    OfSpoke,
    PromptKind,
    SpokeName,
    SpokePool,
    Until,
    VerifiedAgain,
)
from flows.cli.lazy_console import make_console
from flows.cli.node_app import nodes
from flows.cli.spoke_app import spoke
from flows.cli.stack_app import stack
from flows.importing import importing
from tasks_lib.model import NoticeLevel

app = typer.Typer(
    name="coordinator",
    help="Run a graph of coding tasks with parallel agents. Only work that passes `verify` as merged lands.",
    epilog="Exit codes: 0 success; 1 something is blocked or failed; 2 invalid input, nothing was started; "
    "3 nothing failed, but the run is waiting for a person; 130 interrupted, all work is saved.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)


@app.callback()
def coordinator() -> None:
    """Accept options common to all commands; there are none yet."""


# Commands import what they need when called: agents run `notify` often, so it must start fast.
app.add_typer(spoke, name="spoke")
app.add_typer(nodes)
app.add_typer(stack)


@app.command()
def init(repo: Repo = HERE) -> int:
    """Create a starter configuration and an example task."""
    with importing():
        from flows.cli.commands.init import init_repository

    return init_repository(repo, make_console())


@app.command()
def validate(
    repo: Repo = HERE,
    head: Annotated[
        bool, typer.Option("--head", help="Check what has landed on the target instead of the checkout.")
    ] = False,
    json: Json = False,
) -> int:
    """Check the configuration and task files, and list all errors."""
    with importing():
        from flows.cli.commands.validate import validate_repository

    return validate_repository(repo, at_head=head, as_json=json, console=make_console())


@app.command()
def plan(repo: Repo = HERE, json: Json = False) -> int:
    """Show what can run in parallel, and what would start now."""
    with importing():
        from flows.cli.commands.plan import show_plan

    return show_plan(repo, as_json=json, console=make_console())


@app.command()
def graph(
    repo: Repo = HERE,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Output format (default: from the file name, else dot).", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write (default: standard output).")
    ] = None,
    json: Json = False,
) -> int:
    """Draw the graph, coloured by the results of the last run."""
    with importing():
        from flows.cli.commands.graph import show_graph

    return show_graph(repo, form, output, as_json=json, console=make_console())


@app.command()
def prompt(
    task: Annotated[str, typer.Argument(help="The task's id.", show_default=False)],
    kind: Annotated[
        PromptKind, typer.Option("--kind", help="The prompt for the task, or for the review of its branch.")
    ] = (PromptKind.TASK),
    repo: RepoOption = HERE,
    json: Json = False,
) -> int:
    """Print the next prompt for a task, without starting anything."""
    with importing():
        from flows.cli.commands.prompt import show_prompt

    return show_prompt(repo, task, kind, as_json=json)


@app.command()
def doctor(
    repo: Repo = HERE,
    audit: Audited = False,
    verify: VerifiedAgain = False,
    limit: AuditLimit = None,
    spoke: OfSpoke = False,
    name: SpokeName = "",
    pool: SpokePool = "",
    json: Json = False,
) -> int:
    """Check that everything a run needs is in place.

    Each problem comes with its fix. With --verify, try `verify` on the target's head too. With --audit, check instead
    what past runs landed, left behind and reported; with --spoke, what this machine needs to run sessions of other
    machines' runs.
    """
    with importing():
        from flows.cli.commands.audit import audit_repository, check_options
        from flows.cli.commands.doctor import list_checks
        from flows.cli.commands.doctor_check import RUN, report_checks
        from flows.cli.commands.doctor_spoke import SESSIONS, check_spoke_options, list_spoke_checks
        from flows.cli.commands.doctor_verify import check_verification

    check_options(is_audit=audit, limit=limit, is_verify=verify, is_spoke=spoke)
    check_spoke_options(is_spoke=spoke, is_audit=audit, name=name, pool=pool)
    if audit:
        return audit_repository(repo, is_verify=verify, limit=limit, as_json=json, console=make_console())
    if spoke:
        return report_checks(list_spoke_checks(name, pool), SESSIONS, as_json=json, console=make_console())
    checks = chain(list_checks(repo), check_verification(repo)) if verify else list_checks(repo)
    return report_checks(checks, RUN, as_json=json, console=make_console())


@app.command()
def run(
    repo: Repo = HERE,
    only: Annotated[list[str] | None, typer.Option("--only", help="Run only this node; repeatable.")] = None,
    max_sessions: Annotated[
        int | None, typer.Option("--max-sessions", min=1, max=256, help="Maximum number of agents at a time.")
    ] = None,
    max_landings: MaxLandings = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would start, and why the rest waits.")] = False,
    port: Annotated[int, typer.Option("--port", help="Port for the Prefect server; 0 picks a free one.")] = 0,
) -> int:
    """Run the graph with parallel agents.

    Each result is verified as merged, and then lands on the target.
    """
    with importing():
        from flows.cli.commands.run import run_repository

    return run_repository(
        repo,
        only or [],
        max_sessions,
        max_landings=max_landings,
        is_dry_run=dry_run,
        port=port,
        console=make_console(),
    )


@app.command()
def history(node: OptionalNode = "", limit: Limit = 20, repo: RepoOption = HERE, json: Json = False) -> int:
    """List the runs of a repository, newest first, or with NODE that node's part in them."""
    with importing():
        from flows.cli.commands.history import show_history

    return show_history(repo, node, limit, as_json=json, console=make_console())


@app.command()
def report(
    run: ReportedRun = "",
    milestone: Annotated[str, typer.Option(help="Report on the tasks of this milestone.", show_default=False)] = "",
    propose: Annotated[bool, typer.Option("--propose", help="Write the action items as task files.")] = False,
    repo: RepoOption = HERE,
    json: Json = False,
) -> int:
    """Write the after-action report on a run: what went right and wrong, and what to improve."""
    with importing():
        from flows.cli.commands.report import show_report

    return show_report(repo, run, milestone, is_proposing=propose, as_json=json, console=make_console())


@app.command()
def status(
    repo: Repo = HERE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep updating until the run ends.")] = False,
    json: Json = False,
) -> int:
    """Show the state of the current run, or how the last one ended."""
    with importing():
        from flows.cli.commands.status import show_status

    return show_status(repo, is_watched=watch, as_json=json, console=make_console())


@app.command()
def mcp(repo: Repo = HERE) -> int:
    """Serve tools for other agents over standard input and output.

    They speak the Model Context Protocol: spawn tasks, follow them, send messages to them.
    """
    with importing():
        from flows.cli.agent_tools.server import run_server

    return run_server(repo)


@app.command()
def logs(
    node: Node,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the run ends.")] = False,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, help="The log of this attempt (default: the newest).")
    ] = None,
    setup: Annotated[bool, typer.Option("--setup", help="Print the output of `setup`.")] = False,
    review: Annotated[bool, typer.Option("--review", help="Print the reviewer's session.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Print the output of `verify`.")] = False,
    names: Annotated[bool, typer.Option("--list", "-l", help="List the node's logs.")] = False,
    repo: RepoOption = HERE,
    json: Json = False,
) -> int:
    """Print the log of a node's session, setup, review or verify."""
    with importing():
        from flows.cli.commands.logs import choose_kind, show_logs

    kind = choose_kind(is_setup=setup, is_review=review, is_verify=verify)
    console = make_console()
    return show_logs(repo, node, kind, attempt, is_followed=follow, is_list=names, as_json=json, console=console)


@app.command()
def cleanup(
    repo: Repo = HERE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done.")] = False,
    restore: Annotated[
        str, typer.Option("--restore", help="Create a branch from a kept state, given its ref, task id or commit.")
    ] = "",
    to: Annotated[str, typer.Option("--to", help="With --restore: the branch to create (default: restored/…).")] = "",
    prune: Annotated[bool, typer.Option("--prune", help="Delete old kept states.")] = False,
    older_than: Annotated[
        float | None,
        typer.Option(
            "--older-than", min=0, help="With --prune: age in days (default: `kept_days`).", show_default=False
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Clean up after killed runs and manage kept states.

    Work that has not landed is never removed.
    """
    with importing():
        from flows.cli.commands.cleanup import check_options, clean_up
        from flows.cli.commands.kept_states import prune_kept, restore_kept

    check_options(restore=restore, to=to, is_prune=prune, older_than=older_than, is_dry_run=dry_run)
    if restore:
        return restore_kept(repo, restore, to, as_json=json, console=make_console())
    if prune:
        return prune_kept(repo, older_than, is_dry_run=dry_run, as_json=json, console=make_console())
    return clean_up(repo, is_dry_run=dry_run, as_json=json, console=make_console())


@app.command()
def deploy(
    repo: Repo = HERE,
    cron: Annotated[str, typer.Option("--cron", help='Run on a schedule, e.g. "0 2 * * *".', show_default=False)] = "",
    timezone: Annotated[
        str, typer.Option("--timezone", help="Time zone of the schedules, e.g. Europe/Berlin (default: UTC).")
    ] = "",
    max_sessions: Annotated[
        int | None, typer.Option("--max-sessions", min=1, max=256, help="Maximum number of agents at a time.")
    ] = None,
    cleanup_cron: Annotated[
        str, typer.Option("--cleanup-cron", help="Also clean up and audit, on this schedule.", show_default=False)
    ] = "",
    pool: Annotated[str, typer.Option("--pool", help="Work pool (default: coordinator).", show_default=False)] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Remove the repository's deployments.")] = False,
    json: Json = False,
) -> int:
    """Make deployments in Prefect, to start runs from its UI or on a schedule.

    What you change in the UI is kept when you run this again.
    """
    with importing():
        from flows.cli.commands.deploy import Options, deploy_repository

    options = Options(cron, cleanup_cron, timezone, max_sessions, pool, is_removing=remove)
    return deploy_repository(repo, options, as_json=json, console=make_console())


@app.command()
def demo(
    directory: DemoDirectory = None,
    keep: Annotated[bool, typer.Option("--keep/--no-keep", help="Keep the repository afterwards.")] = True,
    sessions: Annotated[
        int | None, typer.Option("--sessions", min=1, max=256, help="Maximum number of agents at a time.")
    ] = None,
    backend: Annotated[
        DemoBackend, typer.Option("--backend", help="Scripted agents, or real opencode sessions with a scripted model.")
    ] = DemoBackend.COMMAND,
    opencode: Annotated[
        Path | None, typer.Option("--opencode", help="Path to opencode (default: the one on PATH).")
    ] = None,
) -> int:
    """Run scripted agents on a small example repository."""
    with importing():
        from flows.cli.commands.demo import run_demo

    console = make_console()
    return run_demo(directory, sessions, is_kept=keep, console=console, backend=backend.value, opencode=opencode)


# A text may start with a dash: agents write lists.
@app.command(context_settings={"ignore_unknown_options": True})
def notify(
    text: Annotated[list[str], typer.Argument(help="What to report.", show_default=False)],
    level: Level = NoticeLevel.INFO,
    until: Until = "",
) -> None:
    """For agents: report something about the current task."""
    from flows.cli.commands.notify import notify as write_down

    write_down(Path.cwd(), level, " ".join(text), until)
