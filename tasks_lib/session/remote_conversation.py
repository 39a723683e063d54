"""What a run remembers of a session on another machine, as text in the record of its node."""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class RemoteConversation:
    """A session on `machine`; `run` is its flow run, `inner` the conversation's name in the agent's own backend.

    `generation` counts how often it was started. `state` is the commit with what it published last and the run has
    taken, "" for nothing. `lost` is "" unless the session was given up because nothing was heard of it; then it is the
    last pulse, so that a later one shows that the session is back.
    """

    run: str
    machine: str
    generation: int
    inner: str = ""
    state: str = ""
    lost: str = ""


def parse_conversation(text: str) -> RemoteConversation | None:
    """Read what `write_conversation` wrote; None for a conversation of a local session."""
    with suppress(ValueError, TypeError, RecursionError):
        found: object = json.loads(text)
        words = cast("dict[str, object]", found) if isinstance(found, dict) else {}
        spoke = words.get("spoke")
        if isinstance(spoke, list) and len(cast("list[object]", spoke)) == 6:
            run, machine, generation, *others = cast("list[object]", spoke)
            return RemoteConversation(str(run), str(machine), int(str(generation)), *map(str, others))
    return None


def write_conversation(of: RemoteConversation) -> str:
    """Write a conversation for the node's record."""
    return json.dumps({"spoke": [of.run, of.machine, of.generation, of.inner, of.state, of.lost]})
