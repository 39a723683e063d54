"""Stands in for one program that the coordinator starts, runs the real one, and kills the coordinator when ordered to.

It is started under the program's own name, with an order in its environment that the program itself never sees.
Start-up time matters here: no site, no pathlib.
"""

import json
import os
import signal
import subprocess
import sys

ORDER = "CHAOS_SHIM"


def main() -> None:
    """Execute the order."""
    order = json.loads(os.environ.pop(ORDER))
    os.environ["PATH"] = order["path"]
    argv = [os.path.basename(sys.argv[0]), *sys.argv[1:]]  # noqa: PTH119
    match order["mode"]:
        case "orphan":
            kill(order)
            os.execvp(argv[0], argv)
        case "after":
            status = subprocess.call(argv)
            kill(order)
            sys.exit(max(status, 1) if status else 0)
        case _:
            sys.exit(cut(order, argv))


def kill(order: dict[str, object]) -> None:
    os.kill(int(str(order["victim"])), signal.SIGKILL)


def cut(order: dict[str, object], argv: list[str]) -> int:
    """Run under ptrace up to the chosen system call; without one, record all of them."""
    sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120
    from syscalls import Call, trace

    calls: list[Call] = []

    def hear(call: Call) -> bool:
        calls.append(call)
        return len(calls) != order["cut"]

    status = trace(argv, hear, lambda: kill(order))
    if order["mode"] == "count":
        descriptor = os.open(str(order["calls"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, json.dumps({"number": order["started"], "calls": calls}).encode() + b"\n")
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    main()
