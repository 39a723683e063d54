"""Coordinator's wheel in a virtual environment of its own, as a user or a worker on another machine has it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Installed:
    """A virtual environment that is not on PATH, with a home and a current directory that have nothing in them."""

    place: Path

    @property
    def bin(self) -> Path:
        return self.place / "environment/bin"

    @property
    def data(self) -> Path:
        return self.place / "data"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """What a shell there has. Nothing in it leads to the checkout or to the virtual environment."""
        own = {"HOME": str(self.place / "home"), "PATH": SYSTEM_PATH, "COORDINATOR_DATA_DIR": str(self.data)}
        kept = {name: os.environ[name] for name in ("LANG", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
        return {**kept, **own, **(extra or {})}

    def run(self, *command: str | Path, extra: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command of the environment's `bin` and return its end, whatever the exit code."""
        return subprocess.run(
            [self.bin / command[0], *command[1:]],
            cwd=self.place / "home", env=self.environment(extra), capture_output=True, text=True, check=False,
        )  # fmt: skip


def install(place: Path) -> Installed:
    """Build the wheel and install it in `place`, which has to be empty; the dependencies are those of this checkout.

    A directory that a `.pth` file names is searched, but the `.pth` files in it are not read, so the editable install of
    the checkout is not found there.
    """
    installed = Installed(place)
    for folder in (place / "home", place / "wheel", installed.data):
        folder.mkdir(parents=True)
    python = [sys.executable, "-m"]
    build = [*python, "hatchling", "build", "-t", "wheel", "-d", str(place / "wheel")]
    subprocess.run(build, cwd=TOP, check=True, capture_output=True)
    venv.create(place / "environment", with_pip=False, symlinks=True)
    (wheel,) = (place / "wheel").glob("*.whl")
    own = installed.bin / "python"
    subprocess.run(
        [*python, "pip", "--python", str(own), "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True
    )
    packages = next((place / "environment/lib").glob("python*/site-packages"))
    (packages / "dependencies.pth").write_text(f"{SITE_PACKAGES}\n", encoding="utf-8")
    script = (SITE_PACKAGES.parents[2] / "bin/prefect").read_text(encoding="utf-8")
    (installed.bin / "prefect").write_text(f"#!{own}\n" + script.partition("\n")[2], encoding="utf-8")
    shutil.copymode(own.resolve(), installed.bin / "prefect")
    found = installed.run("python", "-c", "import flows; print(flows.__file__)").stdout
    assert found.startswith(str(packages)), found
    return installed
