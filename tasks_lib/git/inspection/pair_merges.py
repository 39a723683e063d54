"""Merges branches in pairs in memory, many with one process, to see which paths would conflict."""

from collections.abc import Iterator, Sequence

from tasks_lib.git.commits.isolated_git import IsolatedGit
from tasks_lib.git.git_program import find_version
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.git.objects.quarantine import TRANSIENT, Quarantine

NEEDED_VERSION = (2, 39)
"""`merge-tree --stdin` was added in git 2.39."""
MOST_FAILURES = 5
"""How many pairs of one batch may make git fail; the rest is left out then."""
BATCH_SECONDS = 60.0
"""How long git may take for one batch; then its pairs count as unknown."""
MOST_DIFF_CHARS = 2_000
_OPTIONS = ("--write-tree", "--stdin", "-z", "--name-only", "--no-messages")
_BUILT_IN = frozenset({"text", "binary", "union"})


def is_available() -> bool:
    """Whether the git on PATH can do this."""
    return find_version() >= NEEDED_VERSION


class PairMerger:
    """Merges states in `quarantine`; what git writes for that is deleted at once."""

    def __init__(self, isolation: IsolatedGit, objects: Objects, quarantine: Quarantine) -> None:
        self._isolation: IsolatedGit = isolation
        self._objects: Objects = objects
        self._quarantine: Quarantine = quarantine

    def merge(self, pairs: Sequence[tuple[str, str]], head: str) -> list[tuple[str, ...] | None]:
        """Return the paths in conflict for each pair of commits, None where git could not merge them.

        The attributes are those of the commit `head`. A merge driver of the repository is not run: its files merge.
        """
        git = self._isolation.merging(self._objects, head)
        drivers = [word for name in self._find_drivers(head) for word in ("-c", f"merge.{name}.driver=true")]
        found: list[tuple[str, ...] | None] = []
        failures = 0
        while len(found) < len(pairs) and failures <= MOST_FAILURES:
            rest = pairs[len(found) :]
            lines = "".join(f"{one} {other}\n" for one, other in rest).encode()
            with self._quarantine.discarding() as place:
                words = (*TRANSIENT, *drivers, "merge-tree", *_OPTIONS)
                result = git.run(*words, stdin=lines, environment=place, accept=range(-64, 256), seconds=BATCH_SECONDS)
            merged = list(_parse(result.stdout))[: len(rest)]
            found += merged
            if len(merged) < len(rest):
                found.append(None)
                failures += 1
        return [*found, *[None] * (len(pairs) - len(found))]

    def diff(self, base: str, state: str, paths: Sequence[str]) -> str:
        """Return the beginning of what `state` changed at `paths` since `base`, as a diff."""
        git = self._isolation.merging(self._objects, base)
        words = ("--literal-pathspecs", "diff", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-color")
        result = git.run(*words, base, state, "--", *paths, environment=self._quarantine.environment)
        return result.stdout[: 4 * MOST_DIFF_CHARS].decode("utf-8", "replace")[:MOST_DIFF_CHARS]

    def _find_drivers(self, head: str) -> list[str]:
        words = {word for line in self._isolation.read_attributes(self._objects, head) for word in line.split()[1:]}
        names = {word.partition("=")[2] for word in words if word.startswith("merge=")}
        return sorted(name for name in names - _BUILT_IN if name.isascii() and name.replace("-", "").isalnum())


def _parse(output: bytes) -> Iterator[tuple[str, ...]]:
    """Parse, for each merge, `1` if it is clean or `0`, the tree, the paths in conflict, and an empty field."""
    fields = output.decode("utf-8", "surrogateescape").split("\0")
    record: list[str] = []
    for field in fields[:-1]:
        if field:
            record.append(field)
        elif record:
            yield tuple(dict.fromkeys(record[2:]))
            record = []
