"""Gathers what a session is told of a conflict: both sides' changes, and the goals of the tasks that landed there."""

from tasks_lib.git.commits.commit import Commit
from tasks_lib.git.commits.commit_messages import TASK
from tasks_lib.git.commits.merge_tree import Conflict
from tasks_lib.git.commits.task_reader import TaskReader
from tasks_lib.git.compose.commit_composer import Composer
from tasks_lib.git.inspection.conflict_sides import SidesReader, open_sides
from tasks_lib.prompts.conflict_prompt import NO_FACTS, ConflictFacts, ConflictingPath, OtherWork
from tasks_lib.taskfile.parsing import get_section

MAX_PATHS = 8
"""Of how many conflicting paths the changes are read; of the others, only the kind of conflict is."""
GOALS = ("Goal", "Objective", "Description")
"""The sections of a task file that say what the task is for; the first that is there counts."""
_ID_CHARS = 10


def read_conflict_facts(composer: Composer, conflict: Conflict, head: str, branch: str) -> ConflictFacts:
    """Read what the commits `head` and `branch` did to the paths of `conflict`, and why. Blocking."""
    sides = open_sides(composer.git, composer.objects, head, branch) if conflict.paths else None
    if sides is None:
        return NO_FACTS
    renames = sides.read_renames()
    names = {path: renames.relate(path) for path in conflict.paths}
    paths = tuple(
        ConflictingPath(
            path,
            sides.find_kind(sides.base, related),
            sides.find_kind(head, related),
            sides.find_kind(branch, related),
            renames.head.get(path, ""),
            renames.branch.get(path, ""),
            sides.read_diff(head, related) if number < MAX_PATHS else "",
            sides.read_diff(branch, related) if number < MAX_PATHS else "",
        )
        for number, (path, related) in enumerate(names.items())
    )
    works = list_works(sides, composer.reader, tuple({one: None for related in names.values() for one in related}))
    return ConflictFacts(sides.base[:_ID_CHARS], works, paths)


def list_works(sides: SidesReader, reader: TaskReader, paths: tuple[str, ...]) -> tuple[OtherWork, ...]:
    """What landed on the head in `paths` since the merge base, newest first. Blocking."""
    commits = sides.list_head_commits(paths)
    return tuple(_describe(sides, reader, commit, sides.list_touched(commit, paths)) for commit in commits)


def _describe(sides: SidesReader, reader: TaskReader, commit: Commit, touched: tuple[str, ...]) -> OtherWork:
    task_id = commit.trailers.get(TASK, "")
    task = reader.read(sides.head).find(task_id) if task_id else None
    said = OtherWork(commit.id[:_ID_CHARS], commit.subject, touched, task_id)
    if task is None:
        return said
    text = reader.text(sides.head, task.path) or ""
    goals = (get_section(text, heading) for heading in GOALS)
    return OtherWork(
        said.commit,
        said.subject,
        touched,
        task_id,
        task.name,
        next((goal for goal in goals if goal and goal.strip()), ""),
        get_section(text, "Summary") or "",
    )
