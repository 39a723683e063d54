"""Measures how soon a message, and an abort, arrives at a session on another machine and at one on this machine."""

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.common import BrokenRunError
from bench.figures import judge
from bench.opencode import configure
from bench.remote_site import Gate, Plan, Site, add_repository, finish_run, read_marks, start_run, wait_until
from bench.second_machine import Forwarder
from flows.demo.model_server import ModelServer
from flows.demo.opencode_provider import find_program
from flows.node_requests import abort_nodes, send_message
from tasks_lib.errors import InputError

TARGET = 3.0
TRIES = 5
NODE = "node"
ABORTABLE = """
trap ': > "$place/$id.aborted"; exit 1' TERM
sleep 1000 & wait"""
INTERRUPTED = 1
"""The exit code of a run whose nodes were aborted."""


def run_messages(site: Site, _: float) -> list[str]:
    """Send messages and aborts to sessions here and elsewhere."""
    lines = [f"From sending a request to its arrival ({TRIES} times, worst):"]
    aborts = Plan("abort", {f"node-{number}": () for number in range(TRIES)}, pause=ABORTABLE)
    here, there = measure_aborts(site, aborts), measure_aborts(site, aborts.elsewhere(TRIES, site.machines[0].name))
    lines.append(tell("an abort, at the agent", here, there))
    try:
        program = find_program(None)
    except InputError as error:
        return [*lines, f"  a message was not measured: {error}"]
    here, there = (measure_messages(site, program, is_elsewhere=elsewhere) for elsewhere in (False, True))
    lines.append(tell("a message, in opencode's session and its receipt back", here, there))
    return lines


def tell(what: str, here: list[float], there: list[float]) -> str:
    worst = max(there)
    verdict = judge(f"remote: {what}, worst, s", worst, TARGET)
    return f"  {what}: {worst:.2f} s on a spoke, {verdict}; here {max(here):.2f} s"


def measure_aborts(site: Site, plan: Plan) -> list[float]:
    """Abort one session after the other; return the seconds until each agent was told to end."""
    top = add_repository(site, plan)
    process = start_run(site, top, len(plan.edges))
    wait_until(lambda: len(read_marks(site, plan.name)) == len(plan.edges), "the agents begin", process)
    seconds: list[float] = []
    for node in plan.edges:
        sent = time.time()
        abort_nodes(top, [node])
        wait_until(lambda node=node: node in read_marks(site, plan.name, "aborted"), f"{node} is aborted")
        seconds.append(read_marks(site, plan.name, "aborted")[node] - sent)
    finish_run(top, process, INTERRUPTED)
    return seconds


def measure_messages(site: Site, program: Path, *, is_elsewhere: bool) -> list[float]:
    """Send messages to one session of opencode during its turn; return the seconds until each was received."""
    machine = site.machines[0]
    home = machine.home if is_elsewhere else site.home / "home"
    give_short_catalog(home)
    with ModelServer() as model, reaching(model, machine.network.hub if is_elsewhere else "") as address:
        settings = {"agent": configure(program, address)}
        plan = Plan("message", {NODE: ()}, settings=settings)
        plan = plan.elsewhere(1, machine.name) if is_elsewhere else plan
        with Gate(home / plan.name / "go") as gate:
            top = add_repository(site, replace(plan, text=write_script(gate.path)))
            process = start_run(site, top, 1)
            wait_until(lambda: NODE in read_marks(site, plan.name), "opencode runs its tool", process)
            seconds = [time_message(top, f"Prefer {number}.") for number in range(TRIES)]
            gate.open()
            finish_run(top, process)
    return seconds


def time_message(top: Path, text: str) -> float:
    """Seconds until the session has confirmed a message. Raises BrokenRunError if it is only kept for its next turn."""
    began = time.monotonic()
    sent = send_message(top, NODE, text)
    if not sent.is_done or "next" in sent.answers[0].sentence:
        raise BrokenRunError(f"the message was not received during the turn: {sent.answers}")
    return time.monotonic() - began


@contextmanager
def reaching(model: ModelServer, host: str) -> Generator[str]:
    """Yield the address of the model on this machine, or for one that reaches it at `host`."""
    if not host:
        yield model.url
        return
    forwarder = Forwarder(host, model.port)
    try:
        yield f"http://{forwarder.host}:{forwarder.port}/v1"
    finally:
        forwarder.close()


def write_script(gate: Path) -> str:
    """A task whose session waits for the gate in a tool, and then commits."""
    wait = f": > {gate.parent}/{NODE}.began; read -r _ < {gate}"
    commit = "echo done > work.txt; git add work.txt; git commit -q -m Work"
    steps = [
        {"tool": "bash", "args": {"command": command, "description": "Work", "timeout": 900_000}}
        for command in (wait, commit)
    ]
    return f"```script\n{json.dumps([*steps, {'say': 'It is committed.'}])}\n```"


def give_short_catalog(home: Path) -> None:
    """Give opencode an empty list of models, since its own takes seconds to read, and the configuration names one."""
    catalog = home / ".cache" / "opencode" / "models.json"
    catalog.parent.mkdir(parents=True, exist_ok=True)
    catalog.write_text("{}", encoding="utf-8")
