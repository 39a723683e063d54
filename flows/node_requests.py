"""What a person can ask of nodes from outside a run; the commands and the flows with these names both call this."""

from collections.abc import Sequence
from pathlib import Path

from flows.request_messages import MAX_CHARS, RequestKind, UserRequest
from flows.request_sender import SentRequest, send_request
from tasks_lib.errors import InputError


def send_message(path: Path, node: str, text: str) -> SentRequest:
    """Send `text` to the agent of `node`: during its turn if the backend supports that, else with the next prompt.

    Raises InputError if the text is empty or too long, or if no run is in progress in the repository at `path`.
    """
    if not text.strip():
        raise InputError(["the message is empty; write it in quotes after the node's id"])
    require_length(text, "the message")
    return send_request(path, UserRequest(RequestKind.MESSAGE, (node,), text))


def abort_nodes(path: Path, nodes: Sequence[str]) -> SentRequest:
    """Abort `nodes` and keep their work, while the others continue. Raises InputError if no run is in progress."""
    return send_request(path, UserRequest(RequestKind.ABORT, tuple(nodes)))


def stop_run(path: Path) -> SentRequest:
    """Stop the run of the repository at `path` as Ctrl-C does. Raises InputError if no run is in progress."""
    return send_request(path, UserRequest(RequestKind.STOP))


def require_length(text: str, what: str) -> None:
    """Raise InputError if `text` is too long for a request."""
    if len(text) > MAX_CHARS:
        raise InputError([f"{what} is longer than {MAX_CHARS} characters; put it in a file and send its path"])
