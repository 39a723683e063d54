"""The Prefect flow for nights: cleans up after killed runs, then audits what runs have landed and left behind."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed
from pydantic import Field

from flows.data_directory import find_repository, list_repositories
from flows.prefect_audit import AUDITED_COMMITS, audit_with_prefect
from flows.prefect_cleanup import tell_prefect
from flows.prefect_isolation import in_own_directory, remove_from_import_path
from flows.repository_cleanup import apply_cleanup
from flows.run_artifact import write_markdown
from tasks_lib.errors import BusyError, CoordinatorError
from tasks_lib.project.loading import load_project

FLOW = "cleanup-repository"
ALL = ""
"""The name that stands for every registered repository."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was done in a repository. `faults` are violations, or why it could not be read; `busy` says who uses it."""

    name: str
    done: Sequence[str] = ()
    faults: Sequence[str] = ()
    notes: Sequence[str] = ()
    busy: str = ""


@flow(name=FLOW, flow_run_name="cleanup {repository}", persist_result=False, retries=0)
async def clean_up_repository(repository: Annotated[str, Field(title="Repository")] = ALL) -> State[Any]:
    """Clean up after killed runs of a repository, and audit it. Work that has not landed is never removed.

    Args:
        repository: Name of a registered repository; leave it empty to clean up and audit all of them.
    """
    names = [repository] if repository else sorted(list_repositories())
    with in_own_directory():
        # Everything of git blocks, and one after the other is gentle at night.
        findings = [await asyncio.to_thread(work, name) for name in names]
        report = write_report(findings)
        await write_markdown("coordinator-cleanup", report, "What was done and found")
    return judge(findings)


def work(name: str) -> Finding:
    """Clean up and audit a repository, given by its registered name or path."""
    try:
        return clean_up_and_audit(name, find_repository(name))
    except BusyError as error:
        return Finding(name, busy=str(error))
    except (CoordinatorError, OSError) as error:
        return Finding(name, faults=str(error).splitlines())


def clean_up_and_audit(name: str, top: Path) -> Finding:
    """Do what `coordinator cleanup` and `coordinator doctor --audit` do. Raises BusyError during a run."""
    remove_from_import_path(top)
    project = load_project(top)
    # An idle server of coordinator's own is not ended: it may be the one that this run is recorded on.
    done = apply_cleanup(project, tell_prefect).lines
    audited = audit_with_prefect(project, AUDITED_COMMITS)
    return Finding(name, done, [str(one) for one in audited.violations], audited.notes)


def judge(findings: Sequence[Finding]) -> State[Any]:
    """Failed if something is wrong, Cancelled if nothing could be done because of runs, else Completed."""
    faults = [f"{one.name}: {fault}" for one in findings for fault in one.faults]
    busy = [f"{one.name}: {one.busy}" for one in findings if one.busy]
    if faults:
        return Failed(message="\n".join([*faults, *busy]))
    if busy and len(busy) == len(findings):
        return Cancelled(name="Aborted", message="\n".join(["busy; nothing was changed:", *busy]))
    checked = ", ".join(one.name for one in findings if not one.busy) or "no repository is registered"
    return Completed(message="\n".join([f"No violations: {checked}", *busy]))


def write_report(findings: Sequence[Finding]) -> str:
    """The report in markdown, with a section for each repository."""
    return "\n".join(line for one in findings for line in _write_section(one)) or "No repository is registered."


def _write_section(one: Finding) -> list[str]:
    if one.busy:
        return [f"# {one.name}", "", f"Nothing was changed: {one.busy}", ""]
    return [
        f"# {one.name}",
        "",
        *_write_list("Cleaned up:", one.done, "There was nothing to clean up."),
        *_write_list("The audit found:", one.faults, "The audit found no violations."),
        *(_write_list("Notes:", one.notes, "") if one.notes else []),
    ]


def _write_list(title: str, lines: Sequence[str], nothing: str) -> list[str]:
    return [title, "", *(f"- {line}" for line in lines), ""] if lines else [nothing, ""]
