"""Does one run on an existing RemoteHarness, in a process of its own that a test can kill: `run_once.py PLACE`."""

import asyncio
import json
import os
import sys
from pathlib import Path

from push.remote_harness import RemoteHarness


def main() -> None:
    """Run it and print the result as JSON."""
    harness = RemoteHarness(Path(sys.argv[1]))
    (harness.place / "coordinator.pid").write_text(str(os.getpid()))
    worked = asyncio.run(harness.work())
    print(json.dumps({"names": worked.names, "pending": worked.pending, "lines": list(worked.lines)}))


if __name__ == "__main__":
    main()
