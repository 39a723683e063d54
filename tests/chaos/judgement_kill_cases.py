"""Kills a run that judges work: a review after `verify`, one that asks for tasks, a coming conflict, a dropped change."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from chaos.forked_run import run_in_child
from chaos.kill_cases import UndisturbedRun, Verdict, conclude, find_faults, judge
from chaos.kill_points import Kill
from chaos.tracer import Target
from checker import Meant, check, snapshot_user_state
from checker_traces import read_lines
from generated_graphs import Made, run_git
from run_harness import write_task

AGENT = r"""prompt=$(cat)
id=$COORDINATOR_TASK_ID
common=$(git rev-parse --git-common-dir)
save() { git add --all; git diff --cached --quiet || git commit -q -m "feat($id): $1"; }
await() { n=0; while [ $n -lt 80 ] && ! eval "$1"; do n=$((n + 1)); sleep 0.05; done; }
ask() { printf '%s\n\nVerdict: changes requested\n' "- [blocking] $1"; exit; }
if [ "$COORDINATOR_ROLE" = code-reviewer ]; then
    if [ "$id" = checked ]; then
        test -e extra.txt || ask "shared.txt:1: extra.txt is missing"
    else
        grep -q polished "$id.txt" || ask "$id.txt:1: it is not polished"
    fi
    printf 'Read it all.\n\nVerdict: approved\n'
    exit
fi
save "what an earlier turn left"
case $id in
reviewed)
    case $prompt in *polished*) echo polished > reviewed.txt ;; *) test -e reviewed.txt || echo rough > reviewed.txt ;; esac
    ;;
left)
    grep -q left shared.txt || echo left >> shared.txt
    save "write a line"
    await 'grep -qs "\"foreseen\"" "$common"/worktrees/*/coordinator.json'
    ;;
right)
    grep -q right shared.txt || echo right >> shared.txt
    save "write another line"
    await 'git show main:shared.txt | grep -q left'
    if ! git show "$COORDINATOR_TARGET:shared.txt" | grep -q left; then
        :
    elif git merge-base --is-ancestor "$COORDINATOR_TARGET" HEAD; then
        git show HEAD:shared.txt | grep -q left || printf 'begin\nleft\nright\n' > shared.txt
    else  # Keeps its own side only; in the next turn, which names that, it adds the other one.
        git merge -q --no-edit -X ours "$COORDINATOR_TARGET" > /dev/null
    fi
    ;;
follow-up-*) echo extra > extra.txt ;;
last) echo last > last.txt ;;
esac
save "turn $COORDINATOR_TURN"
echo "Did $id."
"""
VERIFY = ("test -e shared.txt",)
EDGES: Mapping[str, tuple[str, ...]] = {
    "reviewed": (), "left": (), "right": (), "checked": ("reviewed", "left", "right"), "last": ("checked",),
}  # fmt: skip
FRONT: Mapping[str, dict[str, Any]] = {"reviewed": {"risk": "high"}, "checked": {"level": "review"}}


def make_judged_case(place: Path) -> Made:
    """Make a repository in `place` whose run goes through every kind of judgement."""
    repository = place / "repository"
    repository.mkdir(parents=True)
    run_git(repository, "init", "-q", "--initial-branch=main")
    for name, value in (("user.name", "Ada"), ("user.email", "ada@example.org")):
        run_git(repository, "config", name, value)
    settings = {
        # Started through `env`, so that the shim can stand in for it.
        "agent": {"command": ["env", "sh", "agent.sh"]},
        "verify": list(VERIFY),
        "review": {"when": "auto"},
        "retry": {"attempts": 3, "delay_seconds": 0, "max_delay_seconds": 0},
        "watch": {"stop_seconds": 2},
    }
    files = {"coordinator.yaml": yaml.safe_dump(settings), "agent.sh": AGENT, "shared.txt": "begin\n"}
    paths = {task_id: f"tasks/{task_id}.md" for task_id in EDGES}
    files |= {paths[one]: write_task(one, depends_on=[*edges], **FRONT.get(one, {})) for one, edges in EDGES.items()}
    for path, content in files.items():
        (repository / path).parent.mkdir(exist_ok=True)
        (repository / path).write_text(content, encoding="utf-8")
    run_git(repository, "add", "--all")
    run_git(repository, "commit", "-q", "-m", "Plan")
    expected = dict.fromkeys((*EDGES, "follow-up-checked-1"), "completed")
    return Made(
        repository, place / "plan.json", place / "journal.jsonl", EDGES, paths, (), expected, verify=VERIFY, skipped=()
    )


def run_judged_calmly(place: Path) -> tuple[UndisturbedRun, list[str]]:
    """Do an undisturbed run, traced into `place`/trace; return its result and its faults, of which there should be none."""
    made = make_judged_case(place)
    before = snapshot_user_state(made.repository)
    code = run_in_child(place, made.repository, place / "log", place / "trace", None, "")
    faults = find_faults(place, made, check(made.repository, before=before, meant=Meant(made.expected, made.verify)))
    return UndisturbedRun(code, read_lines(made.repository)), faults


def try_judged(place: Path, kill: Kill, *, calm: UndisturbedRun) -> Verdict:
    """Kill the run, rerun it, and judge; `place` is removed if there are no faults."""
    made = make_judged_case(place)
    before = snapshot_user_state(made.repository)
    codes: list[int] = []
    targets: list[Target | None] = [kill.first, None]
    for number, target in enumerate(targets):
        log, trace = place / f"log-{number}", place / f"trace-{number}"
        codes.append(run_in_child(place, made.repository, log, trace, target, ""))
    return conclude(place, kill, codes, judge(place, made, before, codes[-1], calm))
