"""`coordinator attach`: prints the shell command that opens a node's session in the agent's own interface."""

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from flows.cli.commands.logs import LogKind, NodeLogs
from flows.cli.commands.node_standing import explain_node
from flows.request_sender import find_running
from tasks_lib.errors import InputError
from tasks_lib.process.http_clients import bypass_loopback, is_loopback
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.runtime.status_board import NodeView


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
    run = find_running(path)
    found = run.view.nodes.get(node)
    if found is None or not (found.stage or found.outcome):
        raise InputError([explain_node(run.repository, node)])
    if not found.attach:
        raise InputError([_explain(found, NodeLogs(run.repository, node))])
    return found


def _explain(node: NodeView, logs: NodeLogs) -> str:
    follow = f"`coordinator logs {node.id} --follow` shows what it is doing"
    if node.outcome:
        return f"{node.id} has ended as {node.outcome}; {_name_logs(logs)}"
    has_log = logs.find(LogKind.SESSION, None) is not None
    now = follow if has_log else "`coordinator status` shows what it is doing"
    if node.machine:
        return f"{node.id} has its session on {node.machine}, where it cannot be opened from here; {now}"
    if not has_log:
        return f"{node.id} has no session yet: it is at the stage {node.stage}; {now}"
    return f"{node.id} (stage: {node.stage}) has no session that can be opened now; {now}"


def _name_logs(logs: NodeLogs) -> str:
    """Name a command that shows what is left of a node that has ended."""
    if logs.find(LogKind.SESSION, None):
        return f"`coordinator logs {logs.node}` shows its session's log"
    if logs.list():
        return f"it had no session; `coordinator logs {logs.node} --list` lists its logs"
    return "it had no session in this run, and has no log"
