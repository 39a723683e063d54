"""Commits that narrow a task, let it wait, or request follow-up tasks: the audit and the checker accept exactly these."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from checker_traces import text
from history_writer import PATHS, STATUSES, TRAILERS, HistoryWriter, assert_says, write_task

from tasks_lib.cleanup.repository_audit import audit
from tasks_lib.project.loading import load_project

Files = dict[str, str | None]
TOLD = {name: value for name, value in TRAILERS.items() if name != "Verified"}
CRITERIA = "\n## Acceptance Criteria\n- [ ] One\n- [ ] Two, which\n  is long\n- [ ] Three\n\n## More\nText.\n"
FOLLOW_UP = "tasks/follow-up-{}-1.md"
SUBJECTS = {
    "narrowed": "narrowed(d): follow-up-d-1",
    "waits": "waits(d): b/c",
    "requested": "requested(r): follow-up-r-1",
}
NODES = {"narrowed": "d", "waits": "d", "requested": "r"}


class Story:
    """A history with one commit of each kind; a test may break one of them."""

    def __init__(self, directory: Path) -> None:
        self.writer = HistoryWriter(directory)
        criteria = self.writer.texts[PATHS["d"]] + CRITERIA
        self.foreign = [
            self.writer.advance([self.writer.head], "Say more", {PATHS["d"]: criteria}, {"Note": "by hand"})
        ]
        self.statuses = {**STATUSES, "d": "pending", "r": "pending", "b/c": "pending"}
        del self.statuses["resolve-d-1"]
        self.writer.merge("a")

    def write(self, kind: str, change: Callable[[Files], None] = lambda files: None, **told: str) -> None:
        """Write the commit of `kind` after `change` has changed its files; `told` replaces trailers and the subject."""
        node = NODES[kind]
        before = self.writer.texts[PATHS[node]]
        noted, files = f"{before}\n## Notes\nIt was blocked.\n", Files()
        if kind == "narrowed":
            files[FOLLOW_UP.format("d")] = write_task("follow-up-d-1", ["d"])
            noted = noted.replace("- [ ] Two, which\n  is long\n", "")
        elif kind == "waits":
            noted = noted.replace("[a]", "[a, b/c]")
        else:
            files[FOLLOW_UP.format("r")] = write_task("follow-up-r-1", ["a"])
            noted = noted.replace("[a]", "[a, follow-up-r-1]")
        files[PATHS[node]] = noted
        change(files)
        subject = told.pop("subject", SUBJECTS[kind])
        self.writer.advance([self.writer.head], subject, files, {"Task": node, **TOLD, **told})
        self.statuses |= {one.removeprefix("tasks/")[:-3]: "pending" for one in files if "/follow" in one}

    def find(self) -> tuple[list[str], list[str]]:
        """What the audit and the checker find."""
        checked = self.writer.read_faults(statuses=self.statuses, foreign=self.foreign)
        assert text(self.writer.repo, "rev-parse", "main") == self.writer.head
        return [str(one) for one in audit(load_project(self.writer.repo, {}), 1000).violations], checked


@pytest.mark.parametrize("kind", SUBJECTS)
def test_commit_that_changes_what_it_may_is_accepted(tmp_path: Path, kind: str) -> None:
    story = Story(tmp_path)
    story.write(kind)
    assert story.find() == ([], [])


def replace(node: str, old: str, new: str) -> Callable[[Files], None]:
    def change(files: Files) -> None:
        path = PATHS.get(node) or f"tasks/{node}.md"
        before = files[path] or ""
        assert old in before
        files[path] = before.replace(old, new)

    return change


def add(path: str, content: str) -> Callable[[Files], None]:
    return lambda files: files.update({path: content})


def request_nothing(files: Files) -> None:
    del files["tasks/follow-up-r-1.md"]
    replace("r", ", follow-up-r-1", "")(files)


ADDED = "tasks/follow-up-x-1.md"
BROKEN: Mapping[str, tuple[str, Callable[[Files], None], str, str]] = {
    "narrowed: source": ("narrowed", add("src/x.txt", "x\n"), "src/x.txt is not what the head had", "not a task file"),
    "narrowed: description": ("narrowed", replace("d", "Do it.", "Do it!"), "more of tasks/d.md than its criteria", "beside its criteria"),
    "narrowed: text after": ("narrowed", replace("d", "Text.", ""), "more of tasks/d.md than its criteria", "beside its criteria"),
    "narrowed: other words": ("narrowed", replace("d", "- [ ] One", "- [ ] Any"), "more of tasks/d.md than its criteria", "beside its criteria"),
    "narrowed: no criterion": ("narrowed", replace("d", "- [ ] Three", "- [ ] Two, which\n  is long\n- [ ] Three"), "than its criteria", "0 of 3 criteria"),
    "narrowed: every criterion": ("narrowed", replace("d", "- [ ] One\n- [ ] Three\n", ""), "than its criteria", "3 of 3 criteria"),
    "narrowed: dependency": ("narrowed", replace("d", "[a]", "[]"), "more of tasks/d.md than its criteria", "depends_on changed"),
    "narrowed: completed": ("narrowed", replace("d", "status: pending", "status: completed"), 'completes "d"', "completes d"),
    "narrowed: blocked": ("narrowed", replace("d", "status: pending", "status: blocked"), 'leaves "d" blocked', "it is blocked afterwards"),
    "narrowed: another's follow-up": ("narrowed", add(ADDED, write_task("follow-up-x-1", ["d"])), 'adds the task "follow-up-x-1"', "follow-up-x-1 was added"),
    "narrowed: another's file": ("narrowed", add(PATHS["e"], write_task("e")), 'the task file of "e"', "another node's task file"),
    "waits: two": ("waits", replace("d", "b/c]", "b/c, r]"), "changes depends_on of tasks/d.md", "only b/c may be added"),
    "waits: for nothing": ("waits", replace("d", ", b/c]", "]"), "changes depends_on of tasks/d.md", "depends_on does not have anything more"),
    "waits: one less": ("waits", replace("d", "a, b/c", "b/c"), "changes depends_on of tasks/d.md", "only b/c may be added"),
    "waits: description": ("waits", replace("d", "Do it.", "Do it!"), "more of tasks/d.md than depends_on", "the body changed"),
    "waits: criterion": ("waits", replace("d", "- [ ] One\n", ""), "more of tasks/d.md than depends_on", "the body changed"),
    "waits: new task": ("waits", add("tasks/follow-up-d-1.md", write_task("follow-up-d-1")), 'adds the task "follow-up-d-1"', "follow-up-d-1 was added"),
    "requested: source": ("requested", add("src/x.txt", "x\n"), "src/x.txt is not what the head had", "not a task file"),
    "requested: nothing": ("requested", request_nothing, "adds no follow-up task", "does not have anything more"),
    "requested: no edge": ("requested", replace("r", ", follow-up-r-1", ""), "changes depends_on of tasks/r.md", "depends_on does not have follow-up-r-1 more"),
    "requested: other name": ("requested", add("tasks/more.md", write_task("more")), 'adds the task "more"', "the task more was added"),
    "requested: description": ("requested", replace("r", "Do it.", "Do it!"), "more of tasks/r.md than depends_on", "the body changed"),
    "requested: level": ("requested", replace("r", "level: review", "level: research"), "more of tasks/r.md than depends_on", "front matter changed"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_commit_that_changes_anything_else_is_reported(tmp_path: Path, name: str) -> None:
    kind, change, audited, checked = BROKEN[name]
    story = Story(tmp_path)
    story.write(kind, change)
    by_audit, by_checker = story.find()
    assert_says(by_audit, SUBJECTS[kind], audited)
    assert_says(by_checker, SUBJECTS[kind], checked)


@pytest.mark.parametrize("kind", SUBJECTS)
def test_commit_names_its_node_and_attempt(tmp_path: Path, kind: str) -> None:
    story = Story(tmp_path)
    story.write(kind, subject=SUBJECTS[kind].replace(f"({NODES[kind]})", "(a)"), Attempt="")
    by_audit, by_checker = story.find()
    assert_says(by_audit, "has no trailer Attempt")
    assert_says(by_audit, f'does not contain "{NODES[kind]}"')
    assert_says(by_checker, "lacks the trailer Attempt")
    assert_says(by_checker, f"does not say {NODES[kind]}")
