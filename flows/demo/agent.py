"""The demo's scripted agent: it replaces a coding agent, and edits, tests and commits as one would.

It runs once per turn, in the worktree of one node. Its changes are patches in `work/<id>/`: `first.patch` for the first
turn, `fix.patch` for when the work was sent back. A node with a `blocked.md` ends by Safe Exit as long as the answer it
asks for is missing; `resolver.md` is what a resolver says to that. An argument multiplies the seconds it pretends to
think. What goes wrong in the demo is in the tables below.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

WORK = Path(__file__).resolve().parent / "work"
TASKS = "tasks/"

SECONDS = {"reports/by-month": 3.0, "reports/by-category": 2.5, "money/thousands": 2.0, "tax/rounding-options": 1.0}
"""How long a turn pretends to think; the two reports take long enough to overlap."""
USUAL_SECONDS = 1.5

HASTY_TESTS = {"money/thousands": ["tests.test_money"]}
"""Nodes whose first turn runs only these tests, and so misses what it breaks elsewhere."""

DECISIONS = {"tax/rounding": "docs/rounding-rule.txt"}
"""The decision file that a node needs from the user before it can continue."""

QUESTIONS = {"export/csv": "separated by commas", "tax/rounding-options": "20 percent"}
"""What a node has to be told in its prompt before it can continue: by a resolver, or by the user during the run."""

HANGS = {"import/bank": 3600.0}
"""Nodes whose first turn waits for that many seconds for something that never comes."""

LIMITS = {"docs/guide": 3.0}
"""Nodes whose provider accepts no request for that many seconds."""
QUOTA = "the quota for this minute is used up"
ASKED_AGAIN = "Your prompt was:"
"""What is in a prompt that is repeated after a limit."""

PAIR = ("reports/by-month", "reports/by-category")
"""Nodes that commit first and then think until the run has said that they will conflict."""
PARTNER_SECONDS, NOTICE_SECONDS = 10.0, 60.0
"""How long each of them waits at most for the other to begin, and then for what the run says."""

DEMANDS = {"budget": ("tests/test_budget.py", "test_month_without_entries")}
"""The file and the text in it that a reviewer asks for."""
TRY_LATER = 75
"""The exit status for a limit of the provider."""


class Stopped(Exception):  # noqa: N818 - It is how a turn ends, not an error of this program.
    """The turn cannot continue; the message is its report."""


def run(*command: str, stdin: str = "", accept: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
    """Run `command` in the worktree; raise Stopped with its output when its status is not in `accept`."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode not in accept:
        raise Stopped(f"{' '.join(command[:4])} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def say(text: str) -> None:
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


class Limited(Exception):  # noqa: N818 - It is how a turn ends, not an error of this program.
    """The provider accepts no request for now."""


class Turn:
    """One turn of one node, as the environment and the `prompt` describe it."""

    def __init__(self, environment: Mapping[str, str], pace: float, prompt: str = "") -> None:
        self.pace: float = pace
        self.prompt: str = prompt
        self.id: str = environment["COORDINATOR_TASK_ID"]
        self.task_file: Path = Path(environment["COORDINATOR_TASK_FILE"])
        self.target: str = environment["COORDINATOR_TARGET"]
        self.role: str = environment["COORDINATOR_ROLE"]
        attempt, turn = int(environment["COORDINATOR_ATTEMPT"]), int(environment["COORDINATOR_TURN"])
        self.is_first: bool = attempt == 1 and turn == 1
        self.work: Path = WORK / self.id

    @property
    def name(self) -> str:
        lines = self.task_file.read_text(encoding="utf-8").splitlines()
        return next((line.removeprefix("name:").strip() for line in lines if line.startswith("name:")), self.id)

    @property
    def is_answered(self) -> bool:
        """Whether the turn has what the node needs to be told."""
        if needed := DECISIONS.get(self.id):
            return Path(needed).is_file()
        return QUESTIONS.get(self.id, "") in self.prompt

    def think(self) -> None:
        time.sleep(self.pace * SECONDS.get(self.id, USUAL_SECONDS) * (1 if self.is_first else 0.5))


def start_clean() -> None:
    """Reset to the last commit: an earlier turn may have been interrupted during an edit."""
    if run("git", "status", "--porcelain").stdout:
        run("git", "reset", "-q", "--hard")
        run("git", "clean", "-fdq")


def catch_up(turn: Turn) -> list[str]:
    """Merge the target into the branch; return the files whose conflicts were resolved."""
    merge = run("git", "merge", "--no-edit", turn.target, accept=(0, 1))
    conflicts = list_conflicts()
    if not conflicts:
        if merge.returncode:
            raise Stopped(f"git merge failed:\n{merge.stdout}{merge.stderr}")
        return []
    resolve(conflicts)
    run("git", "commit", "-q", "--no-edit")
    return conflicts


def list_conflicts() -> list[str]:
    return [path for path in run("git", "diff", "--name-only", "--diff-filter=U", "-z").stdout.split("\0") if path]


def resolve(paths: list[str]) -> None:
    """Keep both sides in sources and the target's side in task files, and stage the result."""
    for path in paths:
        if path.startswith(TASKS):
            run("git", "checkout", "-q", "--theirs", "--", path)
        else:
            file = Path(path)
            file.write_text(keep_both(file.read_text(encoding="utf-8")), encoding="utf-8")
    run("git", "add", *(["--", *paths] if paths else ["-u"]))


def keep_both(text: str) -> str:
    """Remove conflict markers and keep the lines of both sides."""
    marks = ("<<<<<<< ", ">>>>>>> ")
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(marks) and line.rstrip() != "=======")


def apply(turn: Turn, name: str, subject: str) -> bool:
    """Apply `work/<id>/<name>.patch`, test and commit; returns whether there was anything to do."""
    if not prepare(turn, name, subject):
        return False
    run_tests(HASTY_TESTS.get(turn.id) if turn.is_first else None)
    run("git", "add", "-A")
    run("git", "commit", "-q", "-m", f"{subject}({turn.id}): {turn.name}")
    if turn.is_first and turn.id in PAIR:
        turn.think()
        wait_for_notice(turn)
    return True


def wait_for_notice(turn: Turn) -> None:
    """Wait, within limits, until the run has said that this branch and that of its partner will conflict."""
    [partner] = (one for one in PAIR if one != turn.id)
    branch = ("git", "show-ref", "--verify", "--quiet", f"refs/heads/feat/{partner}")
    view = Path(run("git", "rev-parse", "--git-common-dir").stdout.strip(), "coordinator", "run.json")
    if wait_until(lambda: run(*branch, accept=(0, 1)).returncode == 0, PARTNER_SECONDS):
        wait_until(lambda: "will conflict" in view.read_text(encoding="utf-8"), NOTICE_SECONDS)


def wait_until(is_so: Callable[[], bool], seconds: float) -> bool:
    """Look several times a second, for `seconds` at most; returns whether it became so."""
    end = time.monotonic() + seconds
    while not (found := is_so()) and time.monotonic() < end:
        time.sleep(0.2)
    return found


def prepare(turn: Turn, name: str, subject: str) -> bool:
    """Apply the patch without a commit; returns whether there was anything to do."""
    patch = turn.work / f"{name}.patch"
    commit_subject = f"{subject}({turn.id}): {turn.name}"
    done = run("git", "log", "--format=%s", f"{turn.target}..HEAD").stdout.splitlines()
    if not patch.is_file() or commit_subject in done:
        return False
    run("git", "apply", "--3way", str(patch), accept=(0, 1))
    resolve(list_conflicts())
    return True


def run_tests(modules: list[str] | None = None) -> None:
    """Run all tests of the worktree, or only some `modules`."""
    run(sys.executable, "-B", "-m", "unittest", *(modules or ["discover"]), "-q")


def work(turn: Turn) -> str:
    """Do one turn of an implementation or of research; return the report."""
    start_clean()
    resolved = [] if turn.is_first else catch_up(turn)
    meet_mishap(turn)
    if not (turn.is_first and turn.id in PAIR):
        turn.think()
    if not turn.is_answered:
        return exit_safely(turn)
    apply(turn, "first", "feat")
    report = [read_report(turn, "report")]
    if not turn.is_first and (apply(turn, "fix", "fix") or (turn.work / "fix.md").is_file()):
        report.append(read_report(turn, "fix"))
    if resolved:
        run_tests()
        report.append(f"Merged the target and kept both sides in {', '.join(resolved)}; the tests pass.")
    return "\n\n".join(report)


def meet_mishap(turn: Turn) -> None:
    """Hang, or find the provider's quota used up, if the demo has that for this turn."""
    if turn.is_first and turn.id in HANGS:
        run("sleep", str(turn.pace * HANGS[turn.id]))
    if turn.is_first and turn.id in LIMITS and ASKED_AGAIN not in turn.prompt:
        until = time.time() + max(1.0, turn.pace * LIMITS[turn.id])
        run(
            "coordinator",
            "notify",
            "--level",
            "limit",
            "--until",
            str(int(until)),
            "the quota for this minute is used up",
        )
        raise Limited


def read_report(turn: Turn, name: str) -> str:
    return (turn.work / f"{name}.md").read_text(encoding="utf-8").strip()


def exit_safely(turn: Turn) -> str:
    """Write in the task file why the node cannot continue, and commit that."""
    notes = read_report(turn, "blocked")
    text = turn.task_file.read_text(encoding="utf-8").replace("status: pending", "status: blocked", 1)
    if notes not in text:
        turn.task_file.write_text(f"{text.rstrip()}\n\n## Notes\n{notes}\n", encoding="utf-8")
        run("git", "add", "--", str(turn.task_file))
    reason = notes.splitlines()[0].removeprefix("Blocked: ")
    # A later attempt finds its notes already there, but still has to report that it is blocked.
    run("git", "commit", "-q", "--allow-empty", "-m", f"blocked({turn.id}): {reason}")
    return notes


def review(turn: Turn) -> str:
    """Run the tests and review the changes; the last line is the verdict."""
    turn.think()
    run_tests()
    path, wanted = DEMANDS.get(turn.id, ("", ""))
    if path and wanted not in Path(path).read_text(encoding="utf-8"):
        return f"{read_report(turn, 'review')}\n\nVerdict: changes requested"
    changed = run("git", "diff", "--stat", f"{turn.target}...HEAD").stdout.strip()
    answered = "\n- [answered] 1" if path else ""
    read = f"Read:\n{changed}" if changed else "Read the reports on the target; their sums agree."
    return f"{read}\n\nThe tests pass, and each report has its own.{answered}\n\nVerdict: approved"


def look_up(turn: Turn) -> str:
    """Answer what blocks the node, as a resolver."""
    turn.think()
    return read_report(turn, "resolver")


def main() -> int:
    """Run the turn that the environment describes; the report is printed last."""
    turn = Turn(os.environ, float(sys.argv[1]) if len(sys.argv) > 1 else 1.0, sys.stdin.read())
    roles = {"code-reviewer": review, "resolver": look_up}
    try:
        say(roles.get(turn.role, work)(turn))
    except Limited:
        say(f"{QUOTA}.")
        return TRY_LATER
    except Stopped as stopped:
        say(f"Stopped. {stopped}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
