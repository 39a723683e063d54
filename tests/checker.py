"""Checks with plain git alone that a run kept its promises; shares no code with the coordinator.

    python tests/checker.py snapshot REPOSITORY [TARGET] > before.json    before the run
    python tests/checker.py check REPOSITORY before.json meant.json       after it

`meant.json` contains the fields of `Meant`. Prints one line for each broken promise; exits with 1 if there are any.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from checker_texts import TaskText, find_adoption_faults, find_text_faults, read_task
from checker_traces import (
    Before,
    find_leftovers,
    find_state_faults,
    git,
    read_blobs,
    read_pairs,
    resolve,
    snapshot_user_state,
    text,
)

__all__ = ["Before", "Meant", "check", "snapshot_user_state"]

TRAILERS = ("Task", "Attempt", "Run", "Session", "Verified")
ADDING_LEVELS = ("planning", "decomposition", "architecture")
EDITS = ("narrowed", "waits", "requested")
"""The kinds of commits that let a node run again without a person, each by the verb of its subject."""
_NAMED = re.compile(r"[a-z]+\((.+?)\): ")


@dataclass(frozen=True, slots=True)
class Meant:
    """The expected result of a run.

    `statuses` maps every id to its status at the end. `verify` and `setup` are shell lines. `foreign` are commits
    that others made on the target during the run. With `sample`, `verify` runs on only that many of the commits,
    including the first and the last. `may_be_pending` allows a head that is not published yet. With `has_ended`
    false, the run was stopped midway, so leftovers are not checked.
    """

    statuses: Mapping[str, str]
    verify: Sequence[str] = ()
    setup: Sequence[str] = ()
    tasks_dir: str = "tasks"
    foreign: Collection[str] = ()
    sample: int | None = None
    may_be_pending: bool = False
    has_ended: bool = True


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit of the first-parent chain.

    `kind` is merge, check, blocker, resolution, spawned, report, one of `EDITS`, or foreign.
    """

    id: str
    subject: str
    parents: tuple[str, ...]
    trailers: Mapping[str, str]
    kind: str
    files: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Path to blob id of every task file below the tasks directory."""

    @property
    def task(self) -> str:
        return self.trailers.get("Task", "")

    @property
    def branch(self) -> str:
        return self.subject.removeprefix("Merge ").partition(":")[0] if self.kind == "merge" else ""

    def __str__(self) -> str:
        return f"{self.id[:10]} ({self.subject})"


def check(repo: Path, *, target: str = "main", before: Before, meant: Meant) -> list[str]:
    """Return one sentence for each promise that the run on `repo` broke since `before`; empty if it kept them all."""
    base = resolve(repo, f"refs/heads/{target}")
    pending = resolve(repo, f"refs/coordinator/queue/{target}")
    head = pending or base
    history = History(repo, before.commit, head, meant)
    faults = [] if meant.may_be_pending or head == base else [f"the head {head[:10]} is not published on {target}"]
    faults += history.find_shape_faults()
    faults += history.find_order_faults()
    faults += history.find_completion_faults()
    faults += history.find_text_faults()
    faults += history.find_status_faults()
    faults += history.find_red_commits()
    branches = {commit.branch for commit in history.commits if commit.branch}
    # With a publication pending, the user's branch must be where it was or at one of the coordinator's commits.
    faults += find_state_faults(repo, before, branches)
    if meant.has_ended:
        faults += find_leftovers(repo, target, {c.task for c in history.landings}, branches)
    return faults


class History:
    """The first-parent chain from the target's position before the run to the head, with each commit's task files."""

    def __init__(self, repo: Path, start: str, head: str, meant: Meant) -> None:
        self.repo = repo
        self.meant = meant
        chain = self._read_chain(f"{start}..{head}", "--first-parent", "--reverse") if head != start else []
        self.start = self._read_chain(start, "--no-walk")[0]
        self.commits = chain
        self.landings = [commit for commit in self.commits if commit.kind in ("merge", "check")]
        self._blobs = read_blobs(repo, {blob for commit in (self.start, *chain) for blob in commit.files.values()})

    def _read_chain(self, revisions: str, *options: str) -> list[Commit]:
        fields = "%H%x01%s%x01%P%x01%(trailers:only=true,unfold=true)"
        log = text(self.repo, "log", "-z", *options, f"--format={fields}", revisions, "--")
        return [self._parse(*record.split("\x01")) for record in log.split("\0") if record]

    def _parse(self, commit: str, subject: str, parents: str, trailers: str) -> Commit:
        found = read_pairs(trailers.splitlines(), ": ")
        kind = self._kind(commit, subject, found)
        return Commit(commit, subject, tuple(parents.split()), found, kind, self._files(commit))

    def _kind(self, commit: str, subject: str, trailers: Mapping[str, str]) -> str:
        if commit in self.meant.foreign:
            return "foreign"
        if "Task" not in trailers:
            return "report" if subject.startswith("Report on run ") and trailers.get("Run") else "foreign"
        starts = {"Merge ": "merge", "Check ": "check", "blocked(": "blocker", "resolved(": "resolution"}
        starts["spawned("] = "spawned"
        starts |= {f"{kind}(": kind for kind in EDITS}
        return next((kind for start, kind in starts.items() if subject.startswith(start)), "foreign")

    def _files(self, commit: str) -> dict[str, str]:
        entries = git(self.repo, "ls-tree", "-r", "-z", commit, "--", f"{self.meant.tasks_dir}/").split(b"\0")
        pairs = (entry.decode("utf-8", "surrogateescape").split("\t", 1) for entry in entries if entry)
        return {path: meta.split()[2] for meta, path in pairs if path.endswith(".md")}

    def _tasks(self, commit: Commit) -> dict[str, tuple[str, TaskText]]:
        """Map each task id to its path and parsed task file."""
        read = ((path, read_task(self._blobs[blob])) for path, blob in commit.files.items())
        return {task.id: (path, task) for path, task in read if task is not None}

    def _statuses(self, commit: Commit) -> dict[str, str]:
        return {task_id: task.status for task_id, (_, task) in self._tasks(commit).items()}

    def _steps(self) -> list[tuple[Commit, Commit]]:
        return list(zip([self.start, *self.commits], self.commits, strict=False))

    def find_shape_faults(self) -> list[str]:
        """Each node that landed has one commit of the promised form, and the target has no other commits."""
        faults = [
            f"{commit} was not made by the coordinator"
            for commit in self.commits
            if commit.kind == "foreign" and commit.id not in self.meant.foreign
        ]
        for previous, commit in self._steps():
            if commit.kind == "report":
                faults += self._find_report_faults(previous, commit)
            elif commit.kind != "foreign":
                faults += self._find_form_faults(previous, commit)
        ids = [commit.task for commit in self.landings]
        return faults + [f"{one} landed {ids.count(one)} times" for one in sorted(set(ids)) if ids.count(one) > 1]

    def _find_form_faults(self, previous: Commit, commit: Commit) -> list[str]:
        short = dict.fromkeys(("blocker", *EDITS), TRAILERS[:3])
        wanted = {**short, "resolution": TRAILERS[:1], "spawned": TRAILERS[:1]}.get(commit.kind, TRAILERS)
        faults = [f"{commit} lacks the trailer {name}" for name in wanted if not commit.trailers.get(name)]
        if "Attempt" in wanted and not commit.trailers.get("Attempt", "").isdigit():
            faults.append(f"{commit}: Attempt is {commit.trailers.get('Attempt')!r}, not a number")
        parents = 2 if commit.kind == "merge" else 1
        if len(commit.parents) != parents:
            faults.append(f"{commit} has {len(commit.parents)} parents, not {parents}")
        elif (
            parents == 2 and text(self.repo, "rev-list", "-n1", f"{commit.parents[0]}..{commit.parents[1]}", "--") == ""
        ):
            faults.append(f"{commit} merges nothing new")
        task = self._tasks(commit if commit.kind == "spawned" else previous).get(commit.task)
        if task is None:
            return [*faults, f"{commit} names a task that no file has"]
        return faults + self._find_subject_faults(commit, task[1])

    def _find_report_faults(self, previous: Commit, commit: Commit) -> list[str]:
        """A report on a run adds one file, and changes nothing else."""
        words = ("diff-tree", "-r", "--name-status", previous.id, commit.id, "--")
        changes = text(self.repo, *words).splitlines()
        is_right = len(changes) == 1 and changes[0].startswith("A") and changes[0].endswith(".md")
        return [] if is_right and len(commit.parents) == 1 else [f"{commit} does more than to add a report"]

    def _find_subject_faults(self, commit: Commit, task: TaskText) -> list[str]:
        name = " ".join(task.name.split())
        if commit.kind in ("blocker", "resolution", "spawned", *EDITS):
            said = _NAMED.match(commit.subject)
            is_right = said is not None and said[1] == task.id
            if commit.kind == "resolution":
                is_right &= task.id.startswith("resolve-")
        elif commit.kind == "check":
            is_right = commit.subject == f"Check {task.id}: {name}"
        else:
            # Where two ids cannot both be refs, one of the branches has dashes in place of slashes.
            is_named = task.id.replace("/", "-") in commit.branch.replace("/", "-")
            is_right = is_named and commit.subject == f"Merge {commit.branch}: {name}"
        return [] if is_right else [f"{commit} does not say {task.id} and its name in its subject"]

    def find_order_faults(self) -> list[str]:
        """Every prerequisite of a node, as listed in the final tree, was completed before the node landed."""
        faults: list[str] = []
        final = self._tasks(self.commits[-1] if self.commits else self.start)
        for previous, commit in self._steps():
            if commit.kind in ("merge", "check") and commit.task in final:
                statuses = self._statuses(previous)
                needed = final[commit.task][1].depends_on
                faults += [f"{commit} landed before {one}" for one in needed if statuses.get(one) != "completed"]
        return faults

    def find_completion_faults(self) -> list[str]:
        """A node is completed from its own commit onwards and not before."""
        faults: list[str] = []
        for previous, commit in self._steps():
            old, new = self._statuses(previous), self._statuses(commit)
            turned = {one for one in new if new[one] == "completed" and old.get(one) != "completed"}
            undone = {one for one in old if old[one] == "completed" and new.get(one) != "completed"}
            meant = {commit.task} if commit.kind in ("merge", "check", "resolution") else set[str]()
            if commit.kind != "foreign":
                faults += [f"{commit} completes {one}" for one in sorted(turned - meant)]
                faults += [f"{one} is no longer completed at {commit}" for one in sorted(undone)]
            faults += [f"{commit} does not complete {one}" for one in sorted(meant - turned)]
        return faults

    def find_text_faults(self) -> list[str]:
        """Only the expected lines of task files changed, and commits other than merges changed nothing but task files."""
        faults: list[str] = []
        for previous, commit in self._steps():
            if commit.kind in ("foreign", "report"):
                continue
            if commit.kind != "merge":
                changed = text(self.repo, "diff-tree", "-r", "-z", "--name-only", previous.id, commit.id, "--").split(
                    "\0"
                )
                strange = [path for path in changed if path and path not in {**previous.files, **commit.files}]
                faults += [f"{commit} changes {path}, which is not a task file" for path in strange]
            for path in sorted(previous.files.keys() | commit.files.keys()):
                if previous.files.get(path) != commit.files.get(path):
                    faults += [f"{commit}: {path}: {fault}" for fault in self._compare(previous, commit, path)]
        return faults

    def _compare(self, previous: Commit, commit: Commit, path: str) -> list[str]:
        old_blob, new_blob = previous.files.get(path), commit.files.get(path)
        old = self._blobs[old_blob] if old_blob else None
        new = self._blobs[new_blob] if new_blob else None
        before, after = read_task(old) if old else None, read_task(new) if new else None
        if before is None and (after is None or old is not None):
            return []  # Not a task file: it merges like any other.
        if before is None and after is not None:
            return self._judge_added(previous, commit, after)
        if before is None or old is None or new is None or after is None:
            return ["the task file is gone"]
        if before.id != commit.task:
            return ["another node's task file changed"]
        if commit.kind == "spawned":
            return find_adoption_faults(old, new, commit.trailers.get("Parent", ""))
        needs = self._list_new_needs(previous, commit)
        faults = find_text_faults(old, new, may_need=needs, may_drop=commit.kind == "narrowed")
        if commit.kind in ("waits", "requested") and (not needs or after.depends_on != (*before.depends_on, *needs)):
            faults.append(f"depends_on does not have {', '.join(needs) or 'anything'} more")
        if commit.kind in EDITS and after.status != "pending":
            faults.append(f"it is {after.status} afterwards, not pending")
        return faults

    def _judge_added(self, previous: Commit, commit: Commit, added: TaskText) -> list[str]:
        if commit.kind == "blocker" and added.id.startswith("resolve-") and added.status == "pending":
            return []
        if commit.kind == "spawned" and added.id == commit.task and added.status == "pending":
            parent = commit.trailers.get("Parent", "")
            return [] if added.spawned_by == parent else [f"it says spawned_by {added.spawned_by}, not {parent}"]
        stem = f"follow-up-{commit.task.replace('/', '-')[-100:]}-"
        if commit.kind in ("narrowed", "requested") and re.fullmatch(re.escape(stem) + r"\d+", added.id):
            is_circular = commit.kind == "requested" and commit.task in added.depends_on
            return [f"the task {added.id} waits for {commit.task}"] if is_circular else []
        own = self._tasks(previous).get(commit.task)
        is_allowed = commit.kind == "merge" and own is not None and own[1].level in ADDING_LEVELS
        return [] if is_allowed else [f"the task {added.id} was added"]

    def _list_new_needs(self, previous: Commit, commit: Commit) -> tuple[str, ...]:
        """What the commit may have added to the dependencies of its node."""
        old, new = self._tasks(previous), self._tasks(commit)
        added = sorted(new.keys() - old.keys())
        match commit.kind:
            case "blocker":
                return tuple(one for one in added if one.startswith("resolve-"))[:1]
            case "requested":
                return tuple(added)
            case "waits" if commit.task in old and commit.task in new:
                known = old[commit.task][1].depends_on
                return tuple(one for one in new[commit.task][1].depends_on if one not in known)[:1]
            case _:
                return ()

    def find_status_faults(self) -> list[str]:
        """Every id has the expected status; one blocked in this run has its commit, notes and resolve task."""
        final = self._tasks(self.commits[-1] if self.commits else self.start)
        faults = [f"no task file has the id {one}" for one in self.meant.statuses if one not in final]
        faults += [f"the task {one} was not meant to exist" for one in final if one not in self.meant.statuses]
        for one, (path, task) in final.items():
            meant = self.meant.statuses.get(one, task.status)
            if task.status != meant:
                faults.append(f"{one} is {task.status}, not {meant}")
            elif meant == "blocked" and self._statuses(self.start).get(one) != "blocked":
                faults += self._find_blocker_faults(one, path, task)
        return faults

    def _find_blocker_faults(self, task_id: str, path: str, task: TaskText) -> list[str]:
        faults: list[str] = []
        if not any(commit.kind == "blocker" and commit.task == task_id for commit in self.commits):
            faults.append(f"{task_id} is blocked without a commit blocked({task_id})")
        if not task_id.startswith("resolve-") and not any(one.startswith("resolve-") for one in task.depends_on):
            faults.append(f"{task_id} is blocked and depends on no resolve task")
        last = self.commits[-1] if self.commits else self.start
        if b"\n## Notes" not in self._blobs[last.files[path]]:
            faults.append(f"{task_id} is blocked without notes")
        return faults

    def find_red_commits(self) -> list[str]:
        """Commits with source on which `verify` fails, each checked out in a fresh clone."""
        commits = _choose([commit for commit in self.commits if commit.kind == "merge"], self.meant.sample)
        if not commits or not self.meant.verify:
            return []
        with tempfile.TemporaryDirectory(prefix="checker-") as name:
            clone = Path(name) / "fresh"
            git(self.repo, "clone", "-q", "--shared", "--no-checkout", str(self.repo), str(clone))
            return [fault for commit in commits for fault in self._verify(clone, commit)]

    def _verify(self, clone: Path, commit: Commit) -> list[str]:
        git(clone, "checkout", "-qf", "--detach", f"{commit.id}^0", "--")
        git(clone, "clean", "-ffdxq")
        for line in (*self.meant.setup, *self.meant.verify):
            done = subprocess.run(["sh", "-c", line], cwd=clone, capture_output=True, check=False)
            if done.returncode:
                return [f"{commit} is red: `{line}` exited with {done.returncode}"]
        return []


def _choose(commits: list[Commit], sample: int | None) -> list[Commit]:
    if sample is None or sample >= len(commits):
        return commits
    step = (len(commits) - 1) / max(1, sample - 1)
    return [commits[number] for number in sorted({len(commits) - 1, *(round(i * step) for i in range(sample))})]


def main(arguments: Sequence[str]) -> int:
    """Run one of the two commands shown in the module docstring."""
    match arguments:
        case ["snapshot", repo, *target]:
            print(json.dumps(asdict(snapshot_user_state(Path(repo), *target[:1])), indent=1))
            return 0
        case ["check", repo, before, meant]:
            known = Before(**json.loads(Path(before).read_text(encoding="utf-8")))
            faults = check(
                Path(repo),
                target=known.target,
                before=known,
                meant=Meant(**json.loads(Path(meant).read_text(encoding="utf-8"))),
            )
            print("\n".join(faults) or "Every promise was kept.")
            return 1 if faults else 0
        case _:
            print(__doc__)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
