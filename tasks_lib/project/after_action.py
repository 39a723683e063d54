"""Gathers the facts for an after-action report: from git, from the journals of runs, and from the task files."""

from collections.abc import Collection, Sequence

from tasks_lib.errors import InputError
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.inspection.run_commits import read_commits_since
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.model import Task
from tasks_lib.naming import show
from tasks_lib.project.loading import Project
from tasks_lib.project.run_journals import JOURNALS, Journal, list_journals, read_journal, read_summary
from tasks_lib.reporting.after_action import AfterActionReport, write_after_action
from tasks_lib.reporting.journal_events import JournalEvent
from tasks_lib.reporting.run_facts import Entry, RunCommit, RunFacts, join_periods, select, write_time
from tasks_lib.reporting.run_figures import Headline, make_headline, measure, read_headline
from tasks_lib.reporting.run_trouble import RESOLVED
from tasks_lib.suggestions import suggest

COMPARED = 5
"""How many earlier runs a report compares with."""
MARGIN_SECONDS = 1.0
"""Git stores whole seconds, so a commit may seem to be made before the run began."""


def gather(project: Project, run: str = "", milestone: str = "") -> AfterActionReport:
    """Make the report on `run` (an id, or the beginning of one; "" for the last run), or on a milestone.

    A milestone is the nodes with the tag, the key `milestone`, or the folder of that name; it is reported over all
    recorded runs. What was deleted is said in the report, which is made of what is left. Raises InputError if nothing
    is known of the run, or if no task belongs to the milestone.
    """
    known = list_journals(project.repository.state_dir)
    head, tasks = _read_tasks(project)
    if milestone:
        wanted = _find_milestone(tasks, project.tasks_dir, milestone)
        if run:
            raise InputError(["a milestone is reported over all runs; leave out the run"])
        journals = _read_all(project, known)
        facts = _make_facts(project, head, tasks, journals, wanted)
        return write_after_action(milestone, facts)
    chosen = _choose(project, known, head, run)
    journal = read_journal(project.repository.state_dir, chosen)
    facts = _make_facts(project, head, tasks, [journal] if journal else [], None, chosen)
    before = known[known.index(chosen) + 1 :] if chosen in known else known
    return write_after_action(chosen, facts, _compare(project, before, tasks))


def _read_tasks(project: Project) -> tuple[str, dict[str, Task]]:
    """The head, and the tasks there; files with faults are left out."""
    head = project.open_head().current()
    if head == project.head:
        return head, dict(project.graph.tasks)
    with Objects(project.repository.git) as objects:
        reading = TaskReader(objects, project.tasks_dir, project.target).read(head)
    return head, {task.id: task for task in reading.tasks}


def _choose(project: Project, known: Sequence[str], head: str, run: str) -> str:
    """The run that is meant by `run`."""
    if not run and known:
        return known[0]
    found = [one for one in known if one.startswith(run)] if run else []
    if len(found) == 1 or run in found:
        return run if run in found else found[0]
    if len(found) > 1:
        raise InputError([f'several runs begin with "{show(run)}": {", ".join(found[:5])}; write more of the id'])
    in_git = {one.trailers["Run"] for one in _read_commits(project, head, 0.0) if one.trailers.get("Run")}
    if run and (found := sorted(one for one in in_git if one.startswith(run))):
        return found[0]
    if not run:
        raise InputError(["no run of this repository is recorded; start one with `coordinator run`"])
    hint = suggest(run, [*known, *in_git]) or f"; the last runs: {', '.join(known[:5]) or 'none'}"
    raise InputError([f'no run "{show(run)}" is recorded here, and no commit names it{hint}'])


def _find_milestone(tasks: dict[str, Task], tasks_dir: str, name: str) -> Collection[str]:
    folder = f"{tasks_dir}/{name.strip('/')}/"
    found = {
        task.id
        for task in tasks.values()
        if name in task.tags or str(task.extra.get("milestone", "")) == name or task.path.startswith(folder)
    }
    if found:
        return found
    folders = {task.path.removeprefix(f"{tasks_dir}/").rpartition("/")[0] for task in tasks.values()} - {""}
    tags = {tag for task in tasks.values() for tag in task.tags}
    keys = {str(task.extra["milestone"]) for task in tasks.values() if "milestone" in task.extra}
    names = sorted({*folders, *tags, *keys})
    hint = suggest(name, names) or f"; there are: {', '.join(names[:10]) or 'none'}"
    raise InputError([f'no task has the tag or the key milestone "{show(name)}", or is in such a folder{hint}'])


def _read_all(project: Project, runs: Sequence[str]) -> list[Journal]:
    found = (read_journal(project.repository.state_dir, one) for one in runs)
    return sorted((one for one in found if one and one.entries), key=lambda one: one.entries[0].at)


def _read_commits(project: Project, head: str, since: float) -> tuple[RunCommit, ...]:
    return read_commits_since(project.repository.git, head, since, project.tasks_dir)


def _make_facts(
    project: Project,
    head: str,
    tasks: dict[str, Task],
    journals: Sequence[Journal],
    wanted: Collection[str] | None,
    run: str = "",
) -> RunFacts:
    """The facts of `journals`; of all nodes, or of those that are `wanted`."""
    entries = [entry for journal in journals for entry in journal.entries]
    missing = _find_missing(journals, run)
    if wanted is not None:
        entries = select(entries, lambda node: node in wanted)
    joined, periods = join_periods(sorted(entries, key=lambda entry: entry.at))
    since = joined[0].at - MARGIN_SECONDS if joined else 0.0
    until = joined[-1].at + MARGIN_SECONDS if joined else 0.0
    runs = tuple(journal.run for journal in journals) or (run,)
    commits: list[RunCommit] = []
    later: list[RunCommit] = []
    for one in _skip_earlier(_read_commits(project, head, since), joined):
        is_of_runs = one.trailers.get("Run") in runs or (one.at <= until and not one.trailers.get("Run"))
        if is_of_runs and (wanted is None or _is_about(one, wanted, tasks)):
            commits.append(one)
        elif not is_of_runs and joined and one.at > joined[-1].at - MARGIN_SECONDS:
            later.append(one)
    return RunFacts(runs, joined, tuple(commits), tasks, _find_sessions(joined), periods, tuple(missing), tuple(later))


def _skip_earlier(commits: Sequence[RunCommit], entries: Sequence[Entry]) -> Sequence[RunCommit]:
    """Return `commits` without those that were there when the first run began, maybe in the same second."""
    found = [number for number, one in enumerate(commits, 1) if entries and one.id == entries[0].text("head")]
    return commits[found[0] :] if found else commits


def _is_about(commit: RunCommit, wanted: Collection[str], tasks: dict[str, Task]) -> bool:
    """Whether a commit is about one of the `wanted` nodes, or answers what blocked one."""
    task_id = commit.trailers.get("Task")
    is_answer = commit.subject.startswith(RESOLVED)
    return task_id in wanted or (is_answer and any(task_id in tasks[one].depends_on for one in wanted))


def _find_missing(journals: Sequence[Journal], run: str) -> list[str]:
    if not journals:
        return [f"The journal of run {run} is gone (below {JOURNALS}/), so only what git says of it is reported."]
    missing: list[str] = []
    for journal in journals:
        if journal.unread:
            missing.append(f"{journal.unread} lines of the journal of run {journal.run} cannot be read.")
        if not any(entry.event is JournalEvent.JUDGED for entry in journal.entries):
            missing.append(f"Run {journal.run} was never judged: it was killed, or is still in progress.")
    return missing


def _compare(project: Project, runs: Sequence[str], tasks: dict[str, Task]) -> list[Headline]:
    """The newest of `runs`, each in a row, by their journals alone."""
    found: list[Headline] = []
    for run in runs[:COMPARED]:
        if known := read_headline(read_summary(project.repository.state_dir, run)):
            found.append(known)
            continue
        # A run that was killed was not summed up.
        journal = read_journal(project.repository.state_dir, run)
        if journal and journal.entries:
            entries, periods = join_periods(journal.entries)
            facts = RunFacts((run,), entries, (), tasks, _find_sessions(entries), periods)
            found.append(make_headline(run, measure(facts), write_time(entries[0].at)))
    return found


def _find_sessions(entries: Sequence[Entry]) -> int:
    return max((int(one.number("sessions")) for one in entries if one.event is JournalEvent.BEGUN), default=0)
