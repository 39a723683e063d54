"""Several threads of a process may use git for the first time at once."""

import subprocess
import sys
from pathlib import Path

FIRST_USE = """
import sys
from pathlib import Path
from threading import Barrier, Thread
from tasks_lib.git.runner import Git

sys.setswitchinterval(1e-6)
barrier, faults = Barrier(8), []

def use():
    barrier.wait()
    try:
        Git(Path(sys.argv[1])).run("rev-parse", "--git-dir")
    except Exception as error:
        faults.append(repr(error))

threads = [Thread(target=use) for _ in range(8)]
for one in threads: one.start()
for one in threads: one.join()
sys.exit("\\n".join(faults) or 0)
"""


def test_first_use_of_git_in_several_threads_at_once(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    done = subprocess.run([sys.executable, "-c", FIRST_USE, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
