"""`coordinator attach`: prints the shell command that opens a node's session in the agent's own interface."""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from flows.request_sender import find_running
from tasks_lib.errors import InputError
from tasks_lib.process.http_clients import bypass_loopback, is_loopback
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.runtime.status_board import NodeView
from tasks_lib.suggestions import suggest


def print_attach(path: Path, node: str) -> ExitCode:
    """Print only that command. Raises InputError with the reason if there is no session to open."""
    sys.stdout.write(f"{bypass_proxy(find_node_at_work(path, node).attach, os.environ)}\n")
    return ExitCode.COMPLETED


def bypass_proxy(line: str, environment: Mapping[str, str]) -> str:
    """Return `line`, changed to bypass a proxy in `environment` if its server is on this machine."""
    url = re.search(r"https?://[^\s'\"]+", line)
    wanted = bypass_loopback(environment)
    if url is None or not is_loopback(url[0]) or wanted == dict(environment):
        return line
    value = shlex.quote(wanted["NO_PROXY"])
    return f"NO_PROXY={value} no_proxy={value} {line}"


def find_node_at_work(path: Path, node: str) -> NodeView:
    """The node as the current run shows it; raises InputError unless its session can be opened."""
    nodes = find_running(path).view.nodes
    found = nodes.get(node)
    if found is None:
        raise InputError([f'"{node}" is not a node of this run{suggest(node, nodes) or ""}'])
    if not found.attach:
        raise InputError([_explain(found)])
    return found


def _explain(node: NodeView) -> str:
    if node.outcome:
        return f"{node.id} ended as {node.outcome}; `coordinator logs {node.id}` shows its session's log"
    if node.machine:
        return (
            f"{node.id} has its session on {node.machine}, where it cannot be opened from here; "
            f"`coordinator logs {node.id} --follow` shows what it is doing"
        )
    if not node.stage:
        return f"{node.id} has no session yet; `coordinator status` shows what it is waiting for"
    return (
        f"{node.id} (stage: {node.stage}) has no session that can be opened: it has not started, or its backend has no "
        f"interface of its own; `coordinator logs {node.id} --follow` shows what it is doing"
    )
