"""Does an undisturbed run for each part of a coordinator, and lists the kills that the part has to survive."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chaos.cli_kill_cases import run_whole_calmly, trace_whole, try_call, try_whole
from chaos.forked_run import Defect
from chaos.judgement_kill_cases import run_judged_calmly, try_judged
from chaos.kill_cases import UndisturbedRun, Verdict, retry_kill, run_undisturbed, try_kill
from chaos.kill_points import (
    Effect,
    Kill,
    count_kinds,
    list_calls,
    list_cuts,
    list_kills,
    list_pairs,
    read_calls,
    read_effects,
)
from chaos.people_kill_cases import run_people_calmly, try_people
from chaos.prefect_proxy import LOOPBACK
from chaos.server_kill_cases import ServerStart, trace_start, try_start
from chaos.spoke_kill_cases import run_elsewhere_calmly, try_kill_elsewhere
from chaos.syscalls import is_possible
from chaos.tracer import Target
from chaos.worker_kill_cases import run_with_worker_calmly, try_kill_worker

MOST_OF_WORKERS = 120
"""Most side effects of a worker happen in the run's process too, whose kills are all tried."""
TEMPLATE = "flows.database_template"
SERVER_MODULES = ("flows.prefect_server", "flows.server_sharing", "flows.server_users", TEMPLATE)
Try = Callable[[Path, Kill], Verdict]


@dataclass(frozen=True, slots=True)
class Part:
    """One way of killing: `attempt` tries one of `kills`; `told` is a line that summarizes the side effects seen."""

    told: str
    kills: Sequence[Kill]
    attempt: Try


def plan_life(root: Path, *, every: bool) -> tuple[Part, UndisturbedRun]:
    """Kills while running nodes without Prefect: at files, processes and locks."""
    calm, faults = run_undisturbed(root / "calm")
    require(faults)
    effects = read_effects(root / "calm" / "trace")
    kills = list_kills(effects, every=every)
    sites = len({effect.signature for effect in effects})
    told = f"life: {len(effects)} side effects ({_tell(count_kinds(effects))}) at {sites} sites; {len(kills)} kills"
    return Part(told, kills, partial(retry_kill, try_kill, calm=calm)), calm


def make_defective(life: Part, calm: UndisturbedRun, defect: Defect) -> Part:
    """The part `life` with a coordinator that has `defect`; each fault begins with its name."""
    told = f"{life.told}, with a {defect} coordinator"
    return Part(told, life.kills, partial(retry_kill, try_kill, calm=calm, defect=defect))


def plan_cuts(root: Path, calm: UndisturbedRun, seed: int) -> Part:
    """Kills of the coordinator together with a process that it started, between two of that process's system calls."""
    if not is_possible():
        return Part("cuts: ptrace is not possible here", (), partial(retry_kill, try_kill, calm=calm))
    run_undisturbed(root / "count", Target("count", calls=str(root / "calls")))
    calls = read_calls(root / "calls")
    cuts = list_cuts(read_effects(root / "count" / "trace"), calls, seed)
    told = f"cuts: {sum(map(len, calls.values()))} changes by {len(calls)} processes; {len(cuts)} kills"
    return Part(told, cuts, partial(retry_kill, try_kill, calm=calm))


def plan_pairs(calm: UndisturbedRun, kills: Sequence[Kill], count: int, seed: int) -> Part:
    """Kills from `kills` whose rerun is killed as well."""
    pairs = list_pairs(kills, count, len(kills), seed)
    return Part(f"pairs: {len(pairs)} kills whose rerun is killed too", pairs, partial(retry_kill, try_kill, calm=calm))


def plan_judgement(root: Path, *, every: bool) -> Part:
    """Kills while work is verified, reviewed, given back and asked for, and a coming conflict is told."""
    calm, faults = run_judged_calmly(root / "judgement-calm")
    require(faults)
    effects = read_effects(root / "judgement-calm" / "trace")
    kills = list_kills(effects, every=every)
    told = f"judgement: {len(effects)} side effects ({_tell(count_kinds(effects))}); {len(kills)} kills"
    return Part(told, kills, partial(retry_kill, try_judged, calm=calm))


def plan_people(root: Path, *, is_pushed: bool, every: bool) -> Part:
    """Kills while a person takes and lands tasks, a session spawns one, and reports are committed.

    If what lands `is_pushed`, only kills at what has to do with the remote: the others are those of a local target.
    """
    name, about = ("pushed", "remote") if is_pushed else ("people", "")
    calm, faults = run_people_calmly(root / f"{name}-calm", is_pushed=is_pushed)
    require(faults)
    found = read_effects(root / f"{name}-calm" / "trace")
    # What the person does between the commands is not coordinator's.
    effects = [one for one in found if (where := one.signature.partition(" @ ")[2]) and about in where]
    kills = list_kills(effects, every=every)
    told = f"{name}: {len(effects)} side effects ({_tell(count_kinds(effects))}); {len(kills)} kills"
    return Part(told, kills, partial(retry_kill, try_people, calm=calm, is_pushed=is_pushed))


def plan_spokes(root: Path, *, every: bool) -> Part:
    """Kills while sessions run on another machine, at side effects of either side, of both sides at once."""
    calm, faults = run_elsewhere_calmly(root / "spokes-calm")
    require(faults)
    effects = read_effects(root / "spokes-calm" / "trace")
    kills = list_kills(effects, every=every)
    told = f"spokes: {len(effects)} side effects ({_tell(count_kinds(effects))}); {len(kills)} kills"
    return Part(told, kills, partial(retry_kill, try_kill_elsewhere, calm=calm))


def plan_workers(root: Path, seed: int, *, every: bool) -> Part:
    """Kills of the worker of sessions alone, while the run lives: `MOST_OF_WORKERS` of them unless `every`."""
    calm, faults = run_with_worker_calmly(root / "workers-calm")
    require(faults)
    effects = read_effects(root / "workers-calm" / "trace")
    kills = list_kills(effects, every=every)
    if not every:
        kills = random.Random(seed).sample(kills, min(MOST_OF_WORKERS, len(kills)))
    told = f"workers: {len(effects)} side effects ({_tell(count_kinds(effects))}); {len(kills)} kills"
    return Part(told, kills, partial(retry_kill, try_kill_worker, calm=calm))


def plan_calls(root: Path, port: int, *, every: bool) -> tuple[Part, UndisturbedRun]:
    """Kills at the calls of `coordinator run` to Prefect's server, which listens at `port`."""
    calm, calls, faults = run_whole_calmly(root / "calls-calm", port)
    require(faults)
    kills = list_calls(calls, every=every)
    told = f"calls: {len(calls)} that change something, of {len(set(calls))} kinds; {len(kills)} kills"
    return Part(told, kills, partial(retry_kill, try_call, calm=calm, port=port)), calm


def plan_flows(root: Path, calm: UndisturbedRun, port: int) -> Part:
    """Kills at the command line's and the flow's own side effects, with the server at `port`."""
    api = f"http://{LOOPBACK}:{port}/api"
    own = list_own(read_effects(trace_whole(root / "flows-calm", api)), "flows.")
    return describe_part("flows", own, partial(retry_kill, try_whole, calm=calm, api=api))


def plan_server(root: Path, calm: UndisturbedRun) -> list[Part]:
    """Kills while a run makes the first database or copies it, and starts, shares, keeps and ends a server of its own."""
    first = list_own(read_effects(trace_start(root / "first-calm", ServerStart())), TEMPLATE)
    parts = [describe_part("first server", first, partial(retry_kill, try_start, calm=calm, start=ServerStart()))]
    cache = root / "first-calm" / "cache"
    for name, start in (("server", ServerStart(cache)), ("server that stays", ServerStart(cache, is_kept=True))):
        own = list_own(read_effects(trace_start(root / f"{name.replace(' ', '-')}-calm", start)), *SERVER_MODULES)
        parts.append(describe_part(name, own, partial(retry_kill, try_start, calm=calm, start=start)))
    return parts


def list_own(effects: Sequence[Effect], *modules: str) -> list[Effect]:
    """The side effects whose innermost function is in one of `modules`; exits if there are none."""
    own = [one for one in effects if any(name in _find_innermost(one) for name in modules)]
    require([] if own else [f"no side effect is told of as {' or '.join(modules)}"])
    return own


def _find_innermost(effect: Effect) -> str:
    return effect.signature.partition(" @ ")[2].partition(" < ")[0]


def describe_part(name: str, effects: Sequence[Effect], attempt: Try) -> Part:
    """A part of all kills at these side effects."""
    kills = list_kills(effects)
    return Part(
        f"{name}: {len(effects)} side effects ({_tell(count_kinds(effects))}); {len(kills)} kills", kills, attempt
    )


def require(faults: Sequence[str]) -> None:
    """Exit if an undisturbed run has faults: there would be nothing to compare with."""
    if faults:
        raise SystemExit("\n".join(["An undisturbed run is not as it ought to be:", *faults]))


def _tell(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
