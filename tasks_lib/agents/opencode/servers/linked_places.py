"""Links the user's XDG directories into a server's own, so that shims on PATH find what they start."""

from collections.abc import Mapping, Sequence
from pathlib import Path

_HOMES: Mapping[str, str] = {"DATA": ".local/share", "CONFIG": ".config", "CACHE": ".cache", "STATE": ".local/state"}


def find_home(environment: Mapping[str, str], kind: str) -> Path:
    """Return the user's own `XDG_<kind>_HOME`, or its default."""
    given = environment.get(f"XDG_{kind}_HOME")
    return Path(given) if given else Path(environment.get("HOME") or Path.home()) / _HOMES[kind]


def link_others(
    places: Path, environment: Mapping[str, str], kinds: Sequence[str] = ("DATA", "CACHE", "STATE")
) -> None:
    """Link what programs other than opencode have in the user's directories of these `kinds` into `places`.

    mise, asdf, npx and bun look there for the program behind `opencode`. Links of an earlier start are replaced.
    """
    for kind in kinds:
        place, theirs = places / kind.lower(), find_home(environment, kind)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in [entry for entry in place.iterdir() if entry.is_symlink()]:
            old.unlink()
        for entry in theirs.iterdir() if theirs.is_dir() else ():
            if entry.name != "opencode" and not (place / entry.name).exists():
                (place / entry.name).symlink_to(entry.absolute())
