"""What a run remembers of a session on another machine, as the text that a record has for a conversation."""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class RemoteConversation:
    """The session's flow run and machine, and how often it was started.

    `inner` is the conversation's name in the agent's own backend.
    """

    run: str
    machine: str
    generation: int
    inner: str = ""


def parse_conversation(text: str) -> RemoteConversation | None:
    """Read what `write_conversation` wrote; None for a conversation of a local session."""
    with suppress(ValueError, TypeError, RecursionError):
        found: object = json.loads(text)
        words = cast("dict[str, object]", found) if isinstance(found, dict) else {}
        spoke = words.get("spoke")
        if isinstance(spoke, list) and len(cast("list[object]", spoke)) == 4:
            run, machine, generation, inner = cast("list[object]", spoke)
            return RemoteConversation(str(run), str(machine), int(str(generation)), str(inner))
    return None


def write_conversation(of: RemoteConversation) -> str:
    """Write a conversation for the node's record."""
    return json.dumps({"spoke": [of.run, of.machine, of.generation, of.inner]})
