"""Starts the command line with the tracer, as ordered in the environment."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chaos.tracer import Target, install

ORDER = "CHAOS_START"


def main() -> None:
    """Install the tracer before importing any of the coordinator's modules, then run `coordinator`."""
    order = json.loads(os.environ.pop(ORDER))
    # These let the coordinator find the shim.
    os.environ |= {"CHAOS_BIN": order["bin"], "PATH": f"{order['bin']}:{os.environ['PATH']}"}
    target = Target(**order["target"]) if order["target"] else None
    install(Path(order["trace"]), target, order["places"])
    from flows.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
