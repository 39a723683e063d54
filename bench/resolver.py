"""Measures how many blocked nodes a resolver unblocks without a person, and what one that answers nonsense costs."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from bench.common import Field, git, lay_out
from bench.figures import judge, judge_least
from tasks_lib.engine.run_lifecycle import open_run
from tasks_lib.engine.scheduler import OpenNode, Scheduler
from tasks_lib.graph.run_plan import Plan
from tasks_lib.graph.task_graph import Graph
from tasks_lib.model import Outcome, OutcomeName, Skipped
from tasks_lib.project.loading import load_project

BLOCKERS = 100
SESSIONS = 4
UNBLOCKED = 95
"""How many a resolver that answers has to unblock."""
EXTRA = 1
"""How many attempts an answer that does not help may cost each."""
_BLOCKS = """
prompt=$(cat)
number=${id##*-}
fact=$(cat "facts/$id.txt")
block() {
  case $((number % 4)) in
    0) git commit -q --allow-empty -m "blocked($id): which code?" ;;
    1) printf 'blocked(%s): which code?\\n\\nKind: context\\nTried: %s\\n' "$id" "$number" |
         git commit -q --allow-empty -F - ;;
    2) git commit -q --allow-empty -m "blocked($id): which code?"; echo "**Kind:** context"; echo "- Error: no code" ;;
    3) sed -i 's/^status: .*/status: blocked/' "$COORDINATOR_TASK_FILE"
       grep -q '^## Notes' "$COORDINATOR_TASK_FILE" || printf '\\n## Notes\\n' >> "$COORDINATOR_TASK_FILE"
       printf 'Blocked in attempt %s: which code?\\nKind: context\\n' "$COORDINATOR_ATTEMPT" >> "$COORDINATOR_TASK_FILE"
       git commit -q -a -m 'note the blocker' ;;
  esac
}
if [ "$COORDINATOR_ROLE" = resolver ]; then
"""
_ANSWERS = """
  case $((number % 3)) in
    0) echo "I looked."; echo; echo "Resolution: context"; echo "Context: $fact" ;;
    1) echo "## Resolution"; echo "context"; echo; echo "## Context"; echo "$fact" ;;
    2) echo "- **Resolution:** context"; echo "- **Context:** $fact" ;;
  esac
"""
_NONSENSE = """
  case $((number % 5)) in
    0) echo "I am happy to help!" ;;
    1) echo "Resolution: context"; echo "Context: Try harder." ;;
    2) echo "Resolution: dependency"; echo "Depends on: a-task-that-nobody-has" ;;
    3) echo "Resolution: scope"; echo "Drop: everything" ;;
    4) exit 3 ;;
  esac
"""
_ENDS = """
  exit 0
fi
case $prompt in *"$fact"*) ;; *) block; exit 0 ;; esac
"""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How `BLOCKERS` blocked nodes ended: `attempts` of each, and attempts after a blocker with nothing new."""

    landed: int
    attempts: tuple[int, ...]
    repeated: int


def run() -> str:
    """Run one graph of blockers with each resolver; takes a few minutes."""
    answering, nonsense = measure(_ANSWERS), measure(_NONSENSE)
    worst = max(nonsense.attempts) - 1
    repeated = answering.repeated + nonsense.repeated
    lines = [f"Resolver: {BLOCKERS} nodes that block, each on a fact that the repository has, with simulated agents."]
    lines.append(
        f"A resolver that answers: {answering.landed} of {BLOCKERS} landed without a person, "
        f"{judge_least(f'resolver: landed of {BLOCKERS}', answering.landed, UNBLOCKED)}"
    )
    lines.append(
        f"A resolver that answers nonsense: {nonsense.landed} landed, at most {worst} more attempts for a node, "
        f"{judge('resolver: more attempts after nonsense', worst, EXTRA)}"
    )
    verdict = judge("resolver: attempts with nothing new", repeated, 0)
    lines.append(f"Attempts after a blocker with nothing new: {repeated}, {verdict}")
    return "\n".join(lines)


def measure(resolver: str) -> Outcomes:
    """Run a graph of independent nodes that all block, with the shell code of a `resolver`."""
    edges: dict[str, tuple[str, ...]] = {f"node-{number}": () for number in range(BLOCKERS)}
    with lay_out(edges, 10, pause=f"{_BLOCKS}{resolver}{_ENDS}") as field:
        _add_facts(field, edges)
        return asyncio.run(_work(field))


def _add_facts(field: Field, edges: Mapping[str, object]) -> None:
    facts = field.repository / "facts"
    facts.mkdir()
    for number, node in enumerate(edges):
        (facts / f"{node}.txt").write_text(f"The code of {node} is {number * 7919 % 10_007}.\n")
    settings = field.repository / "coordinator.yaml"
    settings.write_text(f"{settings.read_text()}safe_exit:\n  resolver: always\n")
    git(field.repository, "add", "-A")
    git(field.repository, "commit", "-q", "-m", "Add facts")


async def _work(field: Field) -> Outcomes:
    project = await asyncio.to_thread(load_project, field.repository, {})
    async with open_run(project, "bench", SESSIONS) as opened:
        scheduler = Scheduler(opened, Plan(opened.run.nodes.graph), _Launcher())
        await scheduler.work()
        ended: Mapping[str, Outcome] = scheduler.plan.outcomes
        attempts = tuple(node.attempt for node in opened.run.board.view.nodes.values() if node.id in ended)
        landed = sum(one.name is OutcomeName.MERGED for one in ended.values())
        return Outcomes(landed, attempts, opened.run.nodes.dispatches.repeated)


class _Launcher:
    """Runs nodes without Prefect."""

    async def start(self, node: OpenNode) -> None:
        await node.work()

    async def end(self, node: OpenNode) -> None:
        pass

    async def show(self, graph: Graph, endings: Mapping[str, Skipped | None]) -> None:
        pass


if __name__ == "__main__":
    print(run())
