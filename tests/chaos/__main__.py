"""Kills a coordinator at every side effect of a small run, reruns it each time, and reports violations.

    make chaos                                  all of it; exit status 1 on any violation
    CHAOS_ONLY=after-1a2b3c4d make chaos        the kills whose name or description contains this; * stands for any text,
                                                and | separates alternatives
    CHAOS=all make chaos                        every occurrence of each side effect, not only the first and last
    CHAOS_PARTS=life,cuts make chaos            only these of the parts life, cuts, pairs, judgement, people, pushed,
                                                spokes, calls (to Prefect), flows and server
    CHAOS_SAMPLE=12 make chaos                  a sample of this size, of all kinds
    CHAOS_JOBS=4 CHAOS_SEED=7 CHAOS_PAIRS=100 CHAOS_DIR=/path     parallel jobs, random seed, number of pairs, directory

By default there are two jobs more than cores.

Repositories are made in memory (/dev/shm) if that exists, otherwise in the directory for temporary files.
"""

import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import zip_longest
from multiprocessing import get_context
from pathlib import Path
from typing import cast

from chaos.forked_run import Defect
from chaos.kill_cases import Verdict
from chaos.kill_plans import (
    Part,
    make_defective,
    plan_calls,
    plan_cuts,
    plan_flows,
    plan_judgement,
    plan_life,
    plan_pairs,
    plan_people,
    plan_server,
    plan_spokes,
    plan_workers,
)
from chaos.kill_points import Kill

from flows.prefect_server import end_child, find_free_port, start_child

MEMORY = Path("/dev/shm")
SHOWN = 5
WAITING_JOBS = 2
"""How many jobs there are in addition to one for each core, since a killed run and the next one often wait."""


def plan(root: Path, options: "ChaosOptions", port: int) -> Iterator[Part]:
    """Yield the requested parts; `port` is where Prefect's server listens."""
    if options.wants("life", "cuts", "pairs"):
        life, calm = plan_life(root, every=options.every)
        cuts = [plan_cuts(root, calm, options.seed)] if options.wants("cuts", "pairs") else []
        if options.wants("life"):
            yield from [make_defective(life, calm, defect) for defect in options.defects] or [life]
        yield from cuts if options.wants("cuts") else []
        if options.wants("pairs"):
            yield plan_pairs(calm, [*life.kills, *cuts[0].kills], options.pairs, options.seed)
    if options.wants("judgement"):
        yield plan_judgement(root, every=options.every)
    if options.wants("people"):
        yield plan_people(root, is_pushed=False, every=options.every)
    if options.wants("pushed"):
        yield plan_people(root, is_pushed=True, every=options.every)
    if options.wants("spokes"):
        yield plan_spokes(root, every=options.every)
        yield plan_workers(root, options.seed, every=options.every)
    if port:
        calls, calm = plan_calls(root, port, every=options.every)
        yield from [calls] if options.wants("calls") else []
        yield from [plan_flows(root, calm, port)] if options.wants("flows") else []
        yield from plan_server(root, calm) if options.wants("server") else []


def choose(parts: Sequence[Part], options: "ChaosOptions") -> list[tuple[Part, Kill]]:
    """The requested kills, shuffled so that faults show early; a sample takes kinds of kills in turn."""
    patterns = [f"*{one}*" for one in options.only.split("|")]
    chosen = [
        (part, kill) for part in parts for kill in part.kills if any(fnmatchcase(str(kill), one) for one in patterns)
    ]
    if not chosen:
        raise SystemExit(f"no kill is called {options.only}")
    random.Random(options.seed).shuffle(chosen)
    if not options.sample:
        return chosen
    found: defaultdict[str, list[tuple[Part, Kill]]] = defaultdict(list)
    for part, kill in chosen:
        # The description begins with when and where to kill: `after #1: rename`.
        found[re.sub(r"[#:].*: ?(\w+).*", r"\1", kill.about)].append((part, kill))
    rounds = zip_longest(*found.values())
    return [one for several in rounds for one in several if one][: options.sample]


def try_all(root: Path, parts: Sequence[Part], options: "ChaosOptions") -> Iterator[Verdict]:
    """Yield the verdict of each kill as it completes."""
    chosen = choose(parts, options)
    # Forked, since each job in turn forks coordinators that reuse its imports.
    with ProcessPoolExecutor(options.jobs, get_context("fork")) as pool:
        jobs = [pool.submit(part.attempt, root / f"{at}-{kill.key}", kill) for at, (part, kill) in enumerate(chosen)]
        for number, done in enumerate(as_completed(jobs), 1):
            if number % 50 == 0:
                print(f"{number} of {len(jobs)}", file=sys.stderr, flush=True)
            verdict = done.result()
            for fault in verdict.faults:
                print(f"{verdict.kill.key}: {fault}", file=sys.stderr, flush=True)
            yield verdict


def report(verdicts: Sequence[Verdict], seconds: float) -> int:
    """Print what was tried and every violation; return the exit status."""
    modes = Counter(verdict.kill.first.mode for verdict in verdicts if verdict.struck)
    missed = sum(not verdict.struck for verdict in verdicts)
    print(f"kills that struck: {sum(modes.values())} ({', '.join(f'{n} {mode}' for mode, n in sorted(modes.items()))})")
    for verdict in verdicts:
        if not verdict.struck:
            print(f"not met: {verdict.kill}", file=sys.stderr)
    print(f"not met: {missed}; reruns: {sum(verdict.reruns for verdict in verdicts)}; {seconds:.0f} s")
    broken = [verdict for verdict in verdicts if verdict.faults]
    for cause, several in sorted(group(broken).items(), key=lambda item: -len(item[1])):
        print(f"\nVIOLATION, {len(several)} times: {cause}")
        for verdict in several[:SHOWN]:
            print(f"  CHAOS_ONLY={verdict.kill.key} make chaos   # {verdict.kill.about}")
    print(f"\n{len(broken)} of {len(verdicts)} kills broke a promise." if broken else "Every promise was kept.")
    return 1 if broken else 0


def group(broken: Sequence[Verdict]) -> Mapping[str, list[Verdict]]:
    """Group violations by their text without the names in it."""
    found: defaultdict[str, list[Verdict]] = defaultdict(list)
    for verdict in broken:
        for fault in {
            re.sub(r"[0-9a-f]{7,40}|coordinator-\w{8}|\d{3,}|/\S*/(?=tmp/)", "…", one) for one in verdict.faults
        }:
            found[fault].append(verdict)
    return found


@dataclass(frozen=True, slots=True)
class ChaosOptions:
    """The options from environment variables."""

    only: str = os.environ.get("CHAOS_ONLY", "")
    every: bool = os.environ.get("CHAOS") == "all"
    sample: int = int(os.environ.get("CHAOS_SAMPLE", "0"))
    keeps: bool = bool(os.environ.get("CHAOS_KEEP"))
    defects: tuple[Defect, ...] = cast("tuple[Defect, ...]", tuple(os.environ.get("CHAOS_DEFECTS", "").split()))
    jobs: int = int(os.environ.get("CHAOS_JOBS", (os.cpu_count() or 1) + WAITING_JOBS))
    seed: int = int(os.environ.get("CHAOS_SEED", "1"))
    pairs: int = int(os.environ.get("CHAOS_PAIRS", "60"))
    parts: tuple[str, ...] = tuple(
        os.environ.get("CHAOS_PARTS", "life,cuts,pairs,judgement,people,pushed,spokes,calls,flows,server").split(",")
    )
    directory: Path = Path(
        os.environ.get("CHAOS_DIR") or (MEMORY if os.access(MEMORY, os.W_OK) else tempfile.gettempdir())
    )

    def wants(self, *parts: str) -> bool:
        return bool({*parts} & {*self.parts})


def main() -> int:
    """Try all kills requested in the environment; return the exit status."""
    options = ChaosOptions()
    began = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="chaos-", dir=options.directory))
    with ExitStack() as stack:
        port = 0
        if options.wants("calls", "flows", "server"):
            (root / "prefect").mkdir()
            server = start_child(root / "prefect", find_free_port())
            stack.callback(end_child, server)
            port = server.port
        parts: list[Part] = []
        for part in plan(root, options, port):
            print(part.told, flush=True)
            parts.append(part)
        verdicts = list(try_all(root, parts, options))
    status = report(verdicts, time.monotonic() - began)
    if status or options.keeps:
        print(f"What is left of them is in {root}.")
    else:
        shutil.rmtree(root)
    return status


if __name__ == "__main__":
    sys.exit(main())
