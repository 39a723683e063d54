"""An agent driven by a plan file: it writes, commits, stops or misbehaves as the plan specifies for its node.

    python -S -E -s -B scripted_agent.py PLAN.json

The plan is `{"journal": PATH, "nodes": {ID: {...}}}`. The keys of a node (all optional):

    seconds: float              how long a turn takes besides its git commands
    write: {PATH: TEXT}         files of the repository that it writes
    append: {PATH: LINE}        lines appended to files; a conflict is resolved by keeping both sides
    meet: ID                    waits until a session of that node has begun too (at most `meet_seconds`, 20)
    red_first: {PATH: TEXT}     what it writes in the first turn of the first attempt, in place of `write`
    bridge: {if: PATH, PATH: TEXT}   when work is returned: files it writes if the file `if` exists after the merge
    block_with: "task-file" | "notify" | "commit"     ends by Safe Exit, in that convention
    block_until: PATH           … as long as this file is missing
    edit_own_task_file: true    sets `status: completed` and a Summary itself, and commits that
    edit_other_task_file: PATH  changes another node's task file
    leave_dirty: true           the first turn ends without a commit
    exit_status: int            the first attempt exits with this status, without a commit
    daemon: true                leaves a process running that never exits by itself
    deaf: true                  does not end when asked to
    review: true                commits nothing; ends with a verdict
    verdicts: [TEXT, ...]       its verdicts as code-reviewer, one for each review; the last one repeats
    nested: true                leaves a worktree inside its own, with a commit on no branch and an uncommitted file
    report: TEXT                what it prints last

Each turn writes a line to the journal when it begins and one when it ends, with wall-clock seconds; and a line
`twice` if another agent of the same node is still alive.
Start-up time matters more here than convenience: no site, no pathlib, no re.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

ENV = os.environ
ID = ENV.get("COORDINATOR_TASK_ID", "")
TURN = int(ENV.get("COORDINATOR_TURN", "1"))
ATTEMPT = int(ENV.get("COORDINATOR_ATTEMPT", "1"))
IS_FIRST = TURN == 1 and ATTEMPT == 1
POLL_SECONDS = 0.02
NESTED = "inner"


def read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


def write(path: str, data: bytes) -> None:
    if folder := os.path.dirname(path):  # noqa: PTH120
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(data)


def is_there(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110


def run(*command: str) -> int:
    try:
        return subprocess.call(command)
    except FileNotFoundError:
        return 127


def git(*arguments: str) -> None:
    if status := run("git", *arguments):
        raise SystemExit(f"git {' '.join(arguments)} exited with {status}")


def note(journal: str, event: str, **more: object) -> None:
    """Append one line to the journal atomically: other agents write at the same time."""
    names = ("ROLE", "SESSION", "SLOT", "BRANCH")
    line = {"id": ID, "event": event, "time": time.time(), "attempt": ATTEMPT, "turn": TURN, "pid": os.getpid()}
    line.update({name.lower(): ENV.get("COORDINATOR_" + name, "") for name in names})
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (json.dumps({**line, **more}) + "\n").encode())
    os.close(descriptor)


def read_head() -> str:
    """The worktree's HEAD commit, read from git's files to avoid starting a process; "" if they do not have it."""
    try:
        admin = read(".git").decode().removeprefix("gitdir: ").strip()
        ref = read(f"{admin}/HEAD").decode().strip()
        common = read(f"{admin}/commondir").decode().strip()
        return read(f"{admin}/{common}/{ref.removeprefix('ref: ')}").decode().strip() if "ref: " in ref else ref
    except OSError:
        return ""


def read_journal(journal: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read(journal).splitlines()] if is_there(journal) else []


def meet(journal: str, other: str, seconds: float) -> None:
    """Wait until a session of `other` has begun, so that both branches start from the same head."""
    deadline = time.monotonic() + seconds
    while not any(line["id"] == other for line in read_journal(journal)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def catch_up(own: str) -> None:
    """Merge the target, keeping both sides of a source file and the target's side of a task file."""
    target = ENV.get("COORDINATOR_TARGET", "")
    # Git's conflict messages are kept out of the report: which of the two nodes gets the conflict is chance.
    merge = ["git", "merge", "-q", "--no-edit", target]
    if not target or subprocess.call(merge, stdout=subprocess.DEVNULL) == 0:
        return
    listing = subprocess.check_output(["git", "diff", "--name-only", "--diff-filter=U", "-z"])
    paths = [path for path in listing.decode().split("\0") if path]
    tasks_dir = own.split("/")[0] + "/"
    for path in paths:
        if path.startswith(tasks_dir):
            git("checkout", "-q", "--theirs", "--", path)
        else:
            write(path, keep_both(read(path)))
    git("add", "-A")
    git("commit", "-q", "--no-edit")


def keep_both(data: bytes) -> bytes:
    marks = (b"<<<<<<< ", b">>>>>>> ", b"=======")
    return b"".join(line for line in data.splitlines(keepends=True) if not line.startswith(marks))


def set_status(path: str, word: bytes) -> None:
    lines = read(path).splitlines(keepends=True)
    for number, line in enumerate(lines):
        if line.replace(b" ", b"").startswith(b"status:"):
            old = line.split(b":", 1)[1].split(b"#")[0].strip()
            lines[number] = line.replace(old, word, 1)
            break
    write(path, b"".join(lines))


def add_section(path: str, heading: str, body: str) -> None:
    data = read(path)
    end = b"\r\n" if b"\r\n" in data else b"\n"
    text = f"\n## {heading}\n{body}\n".encode().replace(b"\n", end)
    if text.strip() not in data:
        write(path, data + (b"" if data.endswith(b"\n") else end) + text)


def commit(subject: str, allow_empty: bool = False) -> None:
    """Commit everything with this process's id, or the same work repeated within a second would be the same commit, and
    its loss would go unnoticed."""
    git("add", "-A", "--", ".", f":!{NESTED}")
    if allow_empty or run("git", "diff", "--cached", "--quiet"):
        git("-c", f"committer.name=agent {os.getpid()}", "commit", "-q", "--allow-empty", "-m", subject)


def block(how: str, own: str) -> str:
    """End by Safe Exit; return the report."""
    reason = "a person has to decide between two rules"
    said = f"Blocked: {reason}\n\nTried both; each satisfies the task."
    if how == "task-file":
        set_status(own, b"blocked")
        add_section(own, "Notes", said)
    if how == "notify":
        write(f"src/partial-{ID.replace('/', '-')}.txt", b"as far as it went\n")
        commit(f"feat({ID}): as far as it went")
        if status := run("coordinator", "notify", "--level", "blocking", said):
            raise SystemExit(f"coordinator notify exited with {status}")
    else:
        commit(f"blocked({ID}): {reason}", allow_empty=True)
    return said


def edit(plan: dict[str, Any], own: str) -> None:
    """Write the files that the plan has for this turn."""
    files: dict[str, str] = dict(plan.get("write", {}))
    if IS_FIRST:
        files.update(plan.get("red_first", {}))
    bridge = dict(plan.get("bridge", {}))
    if bridge and not IS_FIRST and is_there(bridge.pop("if")):
        files.update(bridge)
    for path, text in files.items():
        write(path, text.encode())
    for path, line in plan.get("append", {}).items():
        data = read(path) if is_there(path) else b""
        if line.encode() not in data:
            write(path, data + line.encode())
    if plan.get("edit_own_task_file"):
        set_status(own, b"completed")
        add_section(own, "Summary", f"Did {ID}, and wrote this line myself.")
    if other := plan.get("edit_other_task_file"):
        add_section(other, "Notes", f"{ID} was here, where it should not be.")


def leave_nested() -> None:
    """Work in a worktree inside this one, as an agent with subagents does."""
    if not is_there(NESTED):
        git("worktree", "add", "-q", "--detach", NESTED)
    write(f"{NESTED}/sub.txt", f"{ID} {os.getpid()}\n".encode())
    git("-C", NESTED, "add", "-A")
    git("-C", NESTED, "commit", "-q", "-m", f"feat({ID}): in a worktree inside")
    write(f"{NESTED}/left.txt", b"uncommitted\n")


def answer_review(plan: dict[str, Any], journal: str) -> str:
    verdicts: list[str] = plan.get("verdicts", ["approved"])
    before = sum(1 for line in read_journal(journal) if line["id"] == ID and line["event"] == "reviewed")
    verdict = verdicts[min(before, len(verdicts) - 1)]
    note(journal, "reviewed", verdict=verdict)
    return f"{plan.get('report', 'Read it all.')}\n\nVerdict: {verdict}"


def take_turn(plan: dict[str, Any], journal: str) -> str:
    """Do one turn; return the report."""
    own = ENV["COORDINATOR_TASK_FILE"]
    if "meet" in plan:
        meet(journal, plan["meet"], plan.get("meet_seconds", 20))
    time.sleep(plan.get("seconds", 0))
    if plan.get("daemon"):
        subprocess.Popen(["sleep", "1000"])
    if plan.get("review") or ENV.get("COORDINATOR_ROLE") == "code-reviewer":
        return answer_review(plan, journal)
    if ENV.get("COORDINATOR_ROLE") == "resolver":
        return "I looked.\n\nResolution: person\nPerson: which of the two rules?"
    if ATTEMPT == 1 and plan.get("exit_status"):
        raise SystemExit(plan["exit_status"])
    if not IS_FIRST:
        commit(f"feat({ID}): what an earlier turn left")
        catch_up(own)
    if "block_with" in plan and not (plan.get("block_until") and is_there(plan["block_until"])):
        return block(plan["block_with"], own)
    edit(plan, own)
    if not (IS_FIRST and plan.get("leave_dirty")):
        commit(f"feat({ID}): turn {TURN} of attempt {ATTEMPT}")
    if plan.get("nested"):
        leave_nested()
    return plan.get("report", f"Did {ID}: {', '.join([*plan.get('write', {}), *plan.get('append', {})]) or 'nothing'}.")


def main() -> None:
    """Do the turn that the environment describes."""
    prompt = sys.stdin.read()
    whole = json.loads(read(sys.argv[1]))
    plan = whole["nodes"].get(ID, {})
    if plan.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    alone = os.open(f"{whole['journal']}.{ID.replace('/', '-')}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note(whole["journal"], "twice")
    note(whole["journal"], "start", prompt_chars=len(prompt), prompt_start=prompt[:200])
    status = 0
    try:
        sys.stdout.write(take_turn(plan, whole["journal"]) + "\n")
        sys.stdout.flush()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
        sys.stdout.write(f"{stop.code}\n")
    note(whole["journal"], "end", status=status, commit=read_head())
    sys.exit(status)


if __name__ == "__main__":
    main()
