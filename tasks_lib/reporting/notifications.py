"""Decides what a person is told outside of the terminal, in which words, and what was told already."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks_lib.graph.task_graph import Graph
from tasks_lib.model import NotifyEvent, OutcomeName, Status, Task
from tasks_lib.naming import is_resolve_task, show
from tasks_lib.reporting.run_report import EXIT_SENTENCES, STOPPED_EARLY, ExitCode
from tasks_lib.text import cut, fold

REASON_CHARS = 500
MOST_TOLD = 5_000
"""How many ids of notifications are remembered for each receiver, the newest ones."""
Detail = str | int | float


@dataclass(frozen=True, slots=True)
class Notification:
    """One notification. Two with the same `id` say the same; `node` is "" for the whole run.

    `text` is one sentence for a person, `command` what to type now, "" for nothing.
    """

    event: NotifyEvent
    id: str
    text: str
    node: str = ""
    command: str = ""
    reason: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class NodeState:
    """What a run knows of a node besides its task file: how it ended here, why, and what blocks it, by kind.

    `work` is the commit that waits for a person, "" if none does.
    """

    outcome: OutcomeName = OutcomeName.NONE
    reason: str = ""
    kind: str = ""
    work: str = ""


def list_due(graph: Graph, states: Mapping[str, NodeState], running: Collection[str]) -> Iterator[Notification]:
    """What waits for a person at the head: each blocked node, and each task of a person that can be begun.

    Nodes that are `running` are left out: one is blocked at the head shortly before it ends, with its reason. So are
    nodes that a person set to blocked by hand, since nobody has to be told what they did themselves.
    """
    for task_id in graph.order():
        task, state = graph.tasks[task_id], states.get(task_id, NodeState())
        if task.is_completed or task_id in running:
            continue
        if state.work:
            yield describe_waiting(task, state)
        elif task.status is Status.BLOCKED:
            resolves = [one for one in task.depends_on if _is_asked(graph.tasks[one])]
            if resolves:
                yield describe_blocked(task, resolves[-1], state)
        elif _is_asked(task) and not is_resolve_task(task_id) and _can_begin(task, graph):
            text = f"{show(task.id)} is for a person, and can be begun: {show(task.name)}"
            yield Notification(NotifyEvent.PERSON, f"person {task.id}", text, task.id, f"coordinator take {task.id}")


def _is_asked(task: Task) -> bool:
    return task.is_human and not task.is_completed


def _can_begin(task: Task, graph: Graph) -> bool:
    return all(graph.tasks[one].is_completed for one in task.depends_on)


def describe_waiting(task: Task, state: NodeState) -> Notification:
    """Say that the work on a node waits for a person to land it or, if it is theirs, that it did not land."""
    said_of = f"{'returned' if task.is_human else 'land'} {task.id} {state.work}"
    reason = cut(fold(state.reason), REASON_CHARS)
    command = f"coordinator land {task.id}"
    return Notification(NotifyEvent.PERSON, said_of, f"{show(task.id)} {reason}", task.id, command, reason)


def describe_blocked(task: Task, resolve_id: str, state: NodeState) -> Notification:
    """Say that a node is blocked until `resolve_id`, a task of a person, is completed."""
    command = f'coordinator resolve {task.id} "…"'
    reason = cut(fold(state.reason), REASON_CHARS) if state.outcome is OutcomeName.BLOCKED else ""
    text = f"{show(task.id)} is blocked{f': {reason}' if reason else ''}. Its question is in {resolve_id}"
    said_of = f"blocked {task.id} {resolve_id}"
    return Notification(NotifyEvent.BLOCKED, said_of, text, task.id, command, reason, state.kind)


def describe_limit(reason: str, run: str) -> Notification:
    """Say that the run stops because of a limit, such as a provider's or a budget."""
    reason = cut(fold(reason), REASON_CHARS)
    return Notification(NotifyEvent.LIMIT, f"limit {run}", f"The run is stopping: {reason}", reason=reason)


def describe_end(
    code: ExitCode, run: str, outcomes: Sequence[OutcomeName], halt_reason: str = ""
) -> Notification | None:
    """Say how a run has ended; None for one in which nothing ran but what waits for a person, or that a person ended.

    `outcomes` are those of the nodes that ran.
    """
    if code is ExitCode.INTERRUPTED or all(one is OutcomeName.WAITING for one in outcomes):
        return None
    counts = ", ".join(f"{outcomes.count(one)} {one.casefold()}" for one in dict.fromkeys(outcomes) if one)
    said = f"{STOPPED_EARLY} {cut(fold(halt_reason), REASON_CHARS)}" if halt_reason else EXIT_SENTENCES[code]
    text = f"The run has ended with exit code {int(code)}. {said}{f' Nodes: {counts}.' if counts else ''}"
    command = "" if code is ExitCode.COMPLETED else "coordinator status"
    return Notification(NotifyEvent.ENDED, f"ended {run}", text, command=command, reason=said)


def write_payload(notification: Notification, repository: str, run: str, link: str) -> dict[str, Detail]:
    """What is sent, as a flat object; `text` is what chats show. Empty values are left out."""
    found: dict[str, Detail] = {
        "text": f"{repository}: {notification.text}{_tell_command(notification)}",
        "event": str(notification.event),
        "id": notification.id,
        "repository": repository,
        "node": notification.node,
        "reason": notification.reason,
        "kind": notification.kind,
        "command": notification.command,
        "run": run,
        "link": link,
    }
    return {key: value for key, value in found.items() if value}


def _tell_command(notification: Notification) -> str:
    return (
        f" ({notification.command})" if notification.command and notification.command not in notification.text else ""
    )


def add_told(told: Collection[str], notification_id: str) -> tuple[str, ...]:
    """`told` with another id, at most the newest MOST_TOLD."""
    return (*(one for one in told if one != notification_id), notification_id)[-MOST_TOLD:]
