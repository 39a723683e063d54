"""Judges how the coordinator's readers handled one hostile input, by rules that share no code with them."""

import posixpath
import sys
import threading
import traceback
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from hostile_input import Case

from tasks_lib.errors import Fault, InputError
from tasks_lib.graph.task_graph import build_graph, check_graph
from tasks_lib.model import Status, Task
from tasks_lib.naming import name_branches
from tasks_lib.prompts.templates import PLACEHOLDERS, TemplateFile, read_templates
from tasks_lib.settings.schema import Settings, digest_verify, read_settings, read_taskgraph_tasks_dir
from tasks_lib.taskfile.parsing import (
    add_dependency,
    decode,
    encode,
    get_section,
    parse_task,
    set_section,
    set_status,
    sketch_task,
)

LONGEST_MESSAGE = 500
LONGEST_PART = 255 - len(".lock")
"""Bytes of one path component, leaving room for the lock file that git puts next to it."""
BODY = "It went well.\n\n## A heading\n```\nan open fence\n"


@dataclass(frozen=True, slots=True)
class Judgement:
    """`outcome` is `read`, `refused`, `no task file`, `not UTF-8` or `broken`; `violations` has a line for each violation."""

    outcome: str
    violations: tuple[str, ...] = ()


"".encode("utf-8-sig")  # Python loads a codec on first use, which would look like a case that touches the disk.
_watched = threading.local()
_is_hooked = False


def _note(event: str, arguments: tuple[object, ...]) -> None:
    seen = getattr(_watched, "events", None)
    if seen is not None and event.startswith(("open", "os.", "shutil.", "subprocess.", "socket.", "tempfile.")):
        seen.append(f"{event} {str(arguments)[:200]}")


@contextmanager
def noting_side_effects() -> Generator[list[str]]:
    """Collect this thread's operations on files, processes and the network while the block runs."""
    global _is_hooked  # noqa: PLW0603 - A hook cannot be removed, so there is one for the whole process.
    if not _is_hooked:
        sys.addaudithook(_note)
        _is_hooked = True
    events: list[str] = []
    _watched.events = events
    try:
        yield events
    finally:
        _watched.events = None


def judge(case: Case) -> Judgement:
    """Have the case's reader read it; anything but a value or a well-formed InputError is a violation."""
    with noting_side_effects() as events:
        try:
            found = READERS[case.reader](case)
        except InputError as error:
            found = Judgement("refused", tuple(find_malformed(error.faults, case)))
        except RecursionError:
            found = Judgement("broken", ("RecursionError",))
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} at {last.filename}:{last.lineno}"
            found = Judgement("broken", (f"{where}: {str(error)[:200]}",))
    return replace(found, violations=(*found.violations, *(f"touched the system: {event}" for event in events)))


def find_malformed(faults: Iterable[Fault], case: Case) -> Iterator[str]:
    """Yield what is wrong with the faults themselves."""
    has_any = False
    for fault in faults:
        has_any = True
        if fault.path not in (*case.files, *case.environment):
            yield f"names the path {fault.path!r}"
        lines = case.files.get(fault.path, b"").count(b"\n") + 1
        if not 0 <= fault.line <= lines:
            yield f"names line {fault.line} of {lines}"
        if not str(fault).isprintable() or not fault.message.strip():
            yield f"is not one printable line: {str(fault)[:200]!r}"
        if len(fault.message) >= LONGEST_MESSAGE:
            yield f"has {len(fault.message)} characters: {fault.message[:80]!r}"
        if "Traceback" in fault.message:
            yield f"holds a traceback: {fault.message[:80]!r}"
    if not has_any:
        yield "refuses without a fault"


def is_safe(name: str) -> bool:
    """Whether `name` is valid as a branch and as a directory below `.worktrees` on any system, and nothing else."""
    place = f".worktrees/feat/{name}"
    parts = name.split("/")
    return (
        posixpath.normpath(place) == place
        and not any(part.startswith(("-", ".")) or part.endswith((".", ".lock")) or part == "@" for part in parts)
        and not any(one in name for one in (" ", "~", "^", ":", "?", "*", "[", "\\", "..", "@{"))
        and name.isprintable()
        and unicodedata.normalize("NFC", name) == name
        and all(len(part.encode()) <= LONGEST_PART for part in parts)
    )


def _read_task_file(case: Case) -> Judgement:
    (path, data), *_ = case.files.items()
    task, faults = parse_task(data, path, "0" * 40)
    sketch, same_faults = sketch_task(data, path, "0" * 40)
    wrong = list(find_malformed(faults, case)) if faults else []
    if faults != same_faults or (task and sketch != task):
        wrong.append("is read in two ways")
    if (task is None) != any(not fault.is_warning for fault in faults) and (task or faults):
        wrong.append("is a task in spite of its faults, or none without any")
    if encode(decode(data)) != data:
        wrong.append("does not survive decoding")
    if task is None:
        return Judgement("refused" if faults else "no task file", tuple(wrong))
    return Judgement("read", (*wrong, *_find_wrong_values(task, data), *_find_wrong_edits(task, data)))


def _find_wrong_values(task: Task, data: bytes) -> Iterator[str]:
    lines = data.count(b"\n") + 1
    for task_id in (task.id, *task.depends_on):
        if not is_safe(task_id):
            yield f"has the id {task_id[:80]!r}"
    if not task.name or not task.name.isprintable() or len(task.name) > LONGEST_MESSAGE:
        yield f"has the name {task.name[:80]!r} of {len(task.name)} characters"
    if task.id in task.depends_on or len(set(task.depends_on)) < len(task.depends_on):
        yield "depends on itself, or on something twice"
    texts = (task.level or "", task.model, task.priority or "", task.assignee or "", *task.tags)
    if not all(text.isprintable() and len(text) <= LONGEST_MESSAGE for text in texts):
        yield "has a word that cannot be shown on one line"
    if not all(1 <= line <= lines for line in (*task.lines.values(), *task.dependency_lines.values())):
        yield "has a key on a line that is not there"


def _find_wrong_edits(task: Task, data: bytes) -> Iterator[str]:
    """Every edit by the coordinator must work on a task file that was read, and change nothing else in it."""
    text = decode(data)
    for status in Status:
        what = f"status {status}"
        yield from _check_edit(what, task, text, lambda text, to=status: set_status(text, to), status=status)
    if "zz" not in task.depends_on and task.id != "zz":
        wanted = (*task.depends_on, "zz")
        yield from _check_edit("a dependency", task, text, lambda text: add_dependency(text, "zz"), depends_on=wanted)
    for heading in ("Notes", "Summary"):
        new = set_section(text, heading, BODY)
        yield from _check_section(heading, task, text, new)
        both = set_status(new, Status.COMPLETED)
        if set_section(both, heading, BODY) != both or set_status(both, Status.COMPLETED) != both:
            yield f"{heading}: the same edits once more change it again"


def _check_edit(what: str, task: Task, text: str, edit: Callable[[str], str], **changes: object) -> Iterator[str]:
    try:
        new = edit(text)
    except InputError as error:
        yield f"{what}: refused: {str(error)[:200]}"
        return
    after, _ = parse_task(encode(new), task.path, task.blob)
    if after is None or replace(after, **changes) != after or replace(task, **changes) != after:  # pyright: ignore[reportArgumentType]
        yield f"{what}: reads back otherwise"
    elif after.extra != task.extra:
        yield f"{what}: changes another key"
    if _cut_body(new) != _cut_body(text):
        yield f"{what}: changes the body"
    before, behind = difference(text, new)
    if len(behind) > 1 or "\n".join(before).count("#") > "\n".join(behind).count("#"):
        yield f"{what}: changes {len(before)} lines into {len(behind)}: {before[:3]!r} {behind[:3]!r}"
    if after and edit(new) != new:
        yield f"{what}: once more changes it again"


def _check_section(heading: str, task: Task, text: str, new: str) -> Iterator[str]:
    after, _ = parse_task(encode(new), task.path, task.blob)
    if after != task:
        yield f"{heading}: the front matter reads otherwise"
    wanted = "It went well.\n\n### A heading\n```\nan open fence\n```"
    if get_section(new, heading) != wanted:
        yield f"{heading}: reads back otherwise"
    for other in ("Notes", "Summary", "Description"):
        kept, found = get_section(text, other), get_section(new, other)
        # A fence still open at the end of the file is closed before anything is appended.
        is_closed = kept is not None and found is not None and found.startswith(kept) and _is_fence(found[len(kept) :])
        if other != heading and found != kept and not is_closed:
            yield f"{heading}: changes {other}"
    before, behind = difference(text, new)
    old = (get_section(text, heading) or "").split("\n")
    known = {*old, *wanted.split("\n"), f"## {heading}", "```", "~~~", ""}
    lost = [line for line in before if line.strip(" \t\r") not in {word.strip(" \t\r") for word in old} | {""}]
    if len(lost) > (not text.endswith("\n")):
        yield f"{heading}: takes out {lost[:3]!r}"
    known |= {line.strip("\r") for line in before}
    added = [line for line in behind if line.strip("\r") not in known and not _is_fence(line)]
    if added and get_section(text, heading) is not None:
        yield f"{heading}: puts in {added[:3]!r}"


def _is_fence(line: str) -> bool:
    return not line.strip().strip("`~")


def _cut_body(text: str) -> str:
    """The text below the front matter."""
    lines = text.split("\n")
    marks = (number for number, line in enumerate(lines[1:], 1) if line.rstrip(" \t\r") == "---")
    closing = next(marks)
    return "\n".join(lines[closing:])


def difference(old: str, new: str) -> tuple[list[str], list[str]]:
    """The lines of both texts that remain after removing equal ones from both ends."""
    before, after = old.split("\n"), new.split("\n")
    shortest = min(len(before), len(after))
    first = next((at for at in range(shortest) if before[at] != after[at]), shortest)
    before, after = before[first:], after[first:]
    shortest = min(len(before), len(after))
    last = next((at for at in range(shortest) if before[-1 - at] != after[-1 - at]), shortest)
    return before[: len(before) - last], after[: len(after) - last]


def _read_task_files(case: Case) -> Judgement:
    tasks: list[Task] = []
    faults: list[Fault] = []
    for path, data in case.files.items():
        task, found = sketch_task(data, path)
        faults += found
        tasks += [task] if task else []
    faults += check_graph(tasks)
    wrong = tuple(find_malformed(faults, case)) if faults else ()
    if any(not fault.is_warning for fault in faults):
        return Judgement("refused", wrong)
    names = name_branches(build_graph(tasks).tasks.values(), target="main")
    folded = [unicodedata.normalize("NFKC", name.casefold()) for name in names.values()]
    if len(set(folded)) < len(folded) or any(one.startswith(f"{other}/") for one in folded for other in folded):
        wrong = (*wrong, f"has branches that collide: {sorted(names.values())}")
    return Judgement("read", wrong)


def _read_configuration(case: Case) -> Judgement:
    data = case.files["coordinator.yaml"]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Judgement("not UTF-8")  # The code that reads the file reports this; see the tests on whole repositories.
    settings = read_settings(text, "coordinator.yaml", case.environment)
    return Judgement("read", tuple(find_wrong_settings(settings)))


def find_wrong_settings(settings: Settings) -> Iterator[str]:
    """Yield accepted settings that could escape their directory, be taken for an option, or cause a hang."""
    paths = (*settings.keep, *settings.copy_paths, *settings.setup_key, *settings.prompts.values())
    yield from _find_wrong_paths((*paths, settings.tasks_dir or "tasks"))
    for name in (settings.target or "main", f"{settings.branch_prefix}x"):
        if not is_safe(name):
            yield f"has the branch {name[:80]!r}"
    if not all(role.isprintable() and ".." not in role and role[0] not in "-./" for role in settings.roles.values()):
        yield "has a role that could leave its folder"
    if any("\0" in word for word in (*settings.agent.command, *settings.wrapper, *settings.setup, *settings.verify)):
        yield "has a word with NUL"
    if len(digest_verify(settings)) not in (4, 16):
        yield "has no digest"
    for numbers in (settings.watch, settings.retry, settings.budget.run):
        if any(number != number or number in (float("inf"), -1) for number in numbers.model_dump().values()):
            yield f"has a number that is none: {numbers}"


def _find_wrong_paths(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        parts = path.split("/")
        is_inside = posixpath.normpath(f"top/{path}") == f"top/{path}"
        if not is_inside or {"", ".", "..", ".git"} & {part.casefold() for part in parts} or not path.isprintable():
            yield f"has the path {path[:80]!r}"
        if any(len(part.encode()) > 255 for part in parts) or len(path) > 2000:
            yield f"has a path of {len(path)} characters, which no system takes"


def _read_taskgraph(case: Case) -> Judgement:
    (path, data), *_ = case.files.items()
    found = read_taskgraph_tasks_dir(data.decode("utf-8", "replace"), path)
    return Judgement("read", tuple(find_wrong_settings(Settings(tasks_dir=found))) if found else ())


def _read_prompt(case: Case) -> Judgement:
    (path, data), *_ = case.files.items()
    text = data.decode("utf-8", "surrogatepass")
    found, refusals, wrong = "refused", list[Fault](), list[str]()
    for name in PLACEHOLDERS:
        try:
            templates = read_templates({name: TemplateFile(path, text)})
        except InputError as error:
            refusals += error.faults
            continue
        found = "read"
        wrong += find_malformed(templates.warnings, case) if templates.warnings else ()
        values = dict.fromkeys(PLACEHOLDERS[name], "$id ${nobody}")
        if not templates.render(name, values).endswith("\n"):
            wrong.append("renders without an end")
    return Judgement(found, (*wrong, *(find_malformed(refusals, case) if refusals else ())))


READERS: dict[str, Callable[[Case], Judgement]] = {
    "task": _read_task_file,
    "tasks": _read_task_files,
    "settings": _read_configuration,
    "taskgraph": _read_taskgraph,
    "prompt": _read_prompt,
}
