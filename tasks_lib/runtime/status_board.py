"""Keeps the state of a run for display: the progress on screen, and `run.json` for other terminals.

Agents' output reaches terminals only through this module, so everything that could control a terminal is escaped here.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks_lib.model import Outcome, OutcomeName, Stage, parse_outcome
from tasks_lib.process.files import write_atomically
from tasks_lib.text import cut, escape_unprintable

MOST_MESSAGES = 200
MESSAGE_CHARS = 4_000
"""Ten thousand faults make one message; users read its beginning, and `coordinator validate` lists them all."""
SILENT, HEARD = "silent", "heard of again"
"""How the detail of a node begins whose session elsewhere is silent, and when it is not any more."""
CONFLICT_EXPECTED = "will conflict with "
"""How the line about a node begins for which a conflict is coming; the other node and the paths follow."""
MOST_PATHS = 5
VIEW_NAME = "run.json"
"""The file with the view of a repository's run, in the repository's state directory."""
Listener = Callable[[str, str], None]
"""Called for every event with the id of the node that a line is about ("" for the whole run), and the line."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """What users see of one node. Times are ISO 8601, UTC; `log` is the file its session writes to.

    `activity` is what the session is doing now, `active_at` when it was last active, `todo` its progress through its
    own todo list. `tokens` and `cost` (US dollars) are those of all attempts. `attach` is a shell line that opens the
    session. `machine` is the spoke on which the last session runs or ran, "" for the machine of the run.
    `blocker_kind` is the kind of what blocks the node, "" if nothing does. `conflicts` are those that are coming, as
    `other-node: path, path; third-node: path`. `session` is the id of the last attempt's session. `renamed` is the id
    that its task file got during the run, "" if it has this one.
    """

    id: str
    name: str
    stage: str = ""
    detail: str = ""
    since: str = ""
    attempt: int = 0
    turn: int = 0
    log: str = ""
    worktree: str = ""
    role: str = ""
    model: str = ""
    activity: str = ""
    active_at: str = ""
    tokens: int = 0
    cost: float = 0.0
    todo: str = ""
    diffstat: str = ""
    attach: str = ""
    machine: str = ""
    outcome: OutcomeName = OutcomeName.NONE
    reason: str = ""
    commit: str = ""
    blocker_kind: str = ""
    conflicts: str = ""
    session: str = ""
    renamed: str = ""

    @property
    def is_running(self) -> bool:
        """Whether the node has started but not ended."""
        return bool(self.stage) and self.outcome is OutcomeName.NONE


@dataclass(frozen=True, slots=True)
class RunView:
    """What users see of the whole run: its process, its links, its messages, and what its sessions have used so far.

    `link` is the run's page in Prefect's UI, `api` the address of the Prefect API that the run uses.
    `dropped_messages` counts older messages that are only in the run's log. `place` is the common git directory and
    `inode` its inode number, which distinguishes a moved repository from a copy. `is_mounted` means that `.worktrees`
    is on a separate disk. `only` are the ids that the run was limited to, empty for all.
    """

    run: str
    target: str
    started: str
    pid: int = 0
    host: str = ""
    link: str = ""
    api: str = ""
    tokens: int = 0
    cost: float = 0.0
    ended: str = ""
    exit_code: int | None = None
    messages: tuple[str, ...] = ()
    dropped_messages: int = 0
    place: str = ""
    inode: int = 0
    is_mounted: bool = False
    only: tuple[str, ...] = ()
    nodes: Mapping[str, NodeView] = field(default_factory=dict[str, NodeView])


def find_last_activity(node: NodeView) -> float | None:
    """The session's last activity in seconds since the epoch: as reported, or by its log's modification time."""
    if node.active_at:
        return datetime.fromisoformat(node.active_at).timestamp()
    try:
        return Path(node.log).stat().st_mtime if node.log else None
    except OSError:
        return None


def write_paths(paths: Sequence[str]) -> str:
    """Write the first MOST_PATHS of `paths` in one line, and how many more there are."""
    rest = f" and {len(paths) - MOST_PATHS} more" if len(paths) > MOST_PATHS else ""
    return f"{', '.join(paths[:MOST_PATHS])}{rest}"


def now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Board:
    """The live view of one run. Call it from the event loop; listeners are called synchronously and must be quick."""

    def __init__(self, view: RunView, path: Path) -> None:
        self._view = view
        self._nodes: dict[str, NodeView] = dict(view.nodes)
        self._path = path
        self._listeners: list[Listener] = []
        self._taken_back: set[str] = set()
        self._writing: threading.Lock = threading.Lock()
        self._written: dict[str, tuple[NodeView, str]] = {}
        self._replaced: dict[str, str] = {}
        self._end: tuple[str, int] | None = None

    @property
    def view(self) -> RunView:
        return replace(self._view, nodes=dict(self._nodes))

    def node(self, node_id: str) -> NodeView | None:
        """Return the view of one node without copying all others; None if it is unknown."""
        return self._nodes.get(node_id)

    def listen(self, listener: Listener) -> None:
        """Call `listener` for every event."""
        self._listeners.append(listener)

    def ignore(self, listener: Listener) -> None:
        """Stop calling `listener`."""
        self._listeners.remove(listener)

    def say(self, message: str) -> None:
        """Report a message about the run that users must not miss.

        Listeners get every message in full; the view keeps the newest ones, truncated and without duplicates.
        """
        message = escape_unprintable(message)
        kept = cut(message, MESSAGE_CHARS)
        if kept not in self._view.messages:
            messages = (*self._view.messages, kept)
            dropped = self._view.dropped_messages + max(0, len(messages) - MOST_MESSAGES)
            self._view = replace(self._view, messages=messages[-MOST_MESSAGES:], dropped_messages=dropped)
        self._tell("", message)

    def add_node(self, node_id: str, name: str, *, is_completed: bool = False) -> None:
        """Add a node, unless it is known; one that `is_completed` without having run here is shown as landed."""
        if (known := self._nodes.get(node_id)) is None:
            known = self._nodes[node_id] = NodeView(node_id, name)
        if is_completed and known.outcome is OutcomeName.NONE and not known.stage:
            self._nodes[node_id] = replace(known, outcome=OutcomeName.LANDED)

    def enter(self, node_id: str, stage: Stage, detail: str = "", **known: str | int) -> None:
        """Set the stage of a node and clear any earlier outcome; `known` are further fields of its view."""
        detail = escape_unprintable(detail)
        before = replace(
            self._nodes.get(node_id, NodeView(node_id, node_id)),
            outcome=OutcomeName.NONE,
            reason="",
            commit="",
            blocker_kind="",
        )
        self._nodes[node_id] = replace(before, stage=str(stage), detail=detail, since=now_text(), **known)  # pyright: ignore[reportArgumentType]
        self._tell(node_id, f"{stage}{f': {detail}' if detail else ''}")

    def show(self, node_id: str, **known: str | int | float | tuple[str, ...]) -> None:
        """Update fields of a node's view, or of the run's for the id "", without calling listeners."""
        if not node_id:
            self._view = replace(self._view, **known)  # pyright: ignore[reportArgumentType]
            return
        known = {name: escape_unprintable(value) if isinstance(value, str) else value for name, value in known.items()}
        if before := self._nodes.get(node_id):
            self._nodes[node_id] = replace(before, **known)  # pyright: ignore[reportArgumentType]

    def expect_conflicts(self, node_id: str, conflicts: Mapping[str, Sequence[str]]) -> None:
        """Show that a node will conflict with these nodes at these paths, and no others; call listeners of new ones."""
        node = self._nodes.get(node_id)
        if node is None:
            return
        known = {part.partition(": ")[0] for part in node.conflicts.split("; ")}
        parts = {other: f"{other}: {write_paths(paths)}" for other, paths in sorted(conflicts.items())}
        self.show(node_id, conflicts="; ".join(parts.values()))
        for other, part in parts.items():
            if other not in known:
                self._tell(node_id, f"{CONFLICT_EXPECTED}{escape_unprintable(part)}")

    def end(self, node_id: str, outcome: Outcome) -> None:
        """Record the outcome of a node; if its merge has been taken back by now, reopen the node instead."""
        commit = getattr(outcome, "commit", "")
        if commit in self._taken_back:
            self._reopen(node_id)
            return
        before = self._nodes.get(node_id, NodeView(node_id, node_id))
        reason = escape_unprintable(getattr(outcome, "reason", ""))
        self._nodes[node_id] = replace(
            before,
            stage=str(Stage.ENDED),
            detail="",
            activity="",
            attach="",
            conflicts="",
            since=now_text(),
            outcome=outcome.name,
            reason=reason,
            commit=self._replaced.get(commit, commit),
            blocker_kind=str(getattr(outcome, "kind", None) or ""),
        )
        self._tell(node_id, f"{outcome.name}{f': {reason}' if reason else ''}")

    def replace_commit(self, node_id: str, old: str, new: str) -> None:
        """Record that a node landed as `new` instead of `old`; call it before or after `end`."""
        self._replaced[old] = new
        view = self._nodes.get(node_id)
        if view and view.commit == old:
            self._nodes[node_id] = replace(view, commit=new)

    def take_back(self, node_id: str, commit: str) -> None:
        """Record that `commit`, the merge of a node, is no longer on the head; call it before or after `end`."""
        self._taken_back.add(commit)
        view = self._nodes.get(node_id)
        if view and view.commit == commit:
            self._reopen(node_id)

    def _reopen(self, node_id: str) -> None:
        before = self._nodes.get(node_id, NodeView(node_id, node_id))
        said = "its merge was undone"
        self._nodes[node_id] = replace(
            before, stage="", detail=said, since=now_text(), outcome=OutcomeName.NONE, reason="", commit=""
        )
        self._tell(node_id, said)

    def set_link(self, link: str, api: str = "") -> None:
        self._view = replace(self._view, link=link, api=api or self._view.api)

    def close(self, exit_code: int, *, is_reported: bool = True) -> None:
        """Write that the run has ended; call it before the run lock is released, and again once it `is_reported`.

        A record without an end whose lock is free is that of a killed run. Until the end is reported, the view of this
        process has none. Not written if another run has begun since the lock was released. May be called from a thread.
        """
        if not is_reported:
            self._end = now_text(), exit_code
            self.write()
            return
        self._view = replace(self._view, ended=now_text(), exit_code=exit_code)
        written = read_view(self._path) if self._end else None
        if written is None or written.run == self._view.run:
            self.write()

    def _tell(self, node_id: str, line: str) -> None:
        for listener in tuple(self._listeners):
            listener(node_id, line)

    def write(self) -> int:
        """Write the view atomically to the file that other processes read; return its size in bytes.

        May be called from a thread. Only nodes that changed are serialized again, because there may be thousands.
        """
        with self._writing:
            view, nodes = self._view, dict(self._nodes)  # Copied first, because the event loop keeps running.
            if self._end and not view.ended:
                view = replace(view, ended=self._end[0], exit_code=self._end[1])
            for node_id, node in nodes.items():
                if node_id not in self._written or self._written[node_id][0] is not node:
                    self._written[node_id] = (node, f"{json.dumps(node_id)}: {json.dumps(_list_set(node))}")
            lines = ",\n".join(self._written[node_id][1] for node_id in nodes)
            data = f'{json.dumps(_list_set(view))[:-1]}, "nodes": {{\n{lines}\n}}}}\n'.encode()
            write_atomically(self._path, data)
            return len(data)


def _list_set(view: NodeView | RunView) -> dict[str, object]:
    """Return the fields of a view that differ from their defaults, without the nodes of a run."""
    return {name.name: value for name in fields(view) if not _is_unset(name, value := getattr(view, name.name))}


def _is_unset(name: "Field[Any]", value: object) -> bool:
    return name.default_factory is not MISSING or (name.default is not MISSING and value == name.default)


def read_view(path: Path) -> RunView | None:
    """Return the view that the current or the last run wrote; None if it is missing or cannot be read."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        nodes = {key: _read_node(value) for key, value in raw.pop("nodes").items()}
        messages = tuple(raw.pop("messages", ()))
        only = tuple(raw.pop("only", ()))
        return RunView(**raw, nodes=nodes, messages=messages, only=only)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _read_node(values: dict[str, Any]) -> NodeView:
    known: dict[str, Any] = values | {"outcome": parse_outcome(values.get("outcome"))}
    return NodeView(**known)
