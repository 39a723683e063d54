"""Reads and writes git objects with few processes: one child reads objects; trees are edited in memory."""

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import IO, NamedTuple, Protocol, Self

from tasks_lib.errors import GitError
from tasks_lib.git.objects.helper_process import Child, Died
from tasks_lib.git.objects.object_writer import ObjectWriter
from tasks_lib.git.runner import Git

TREE_MODE = "040000"
FILE_MODE = "100644"
_FILE_MODES = frozenset({"100644", "100755", "100664"})
_MODES = {b"100644": "100644", b"100755": "100755", b"40000": TREE_MODE, b"120000": "120000", b"160000": "160000"}
_ENTRIES = {size: re.compile(rb"(\d+) ([^\0]+)\0(.{%d})" % size, re.DOTALL) for size in (20, 32)}
_HELPER = ("cat-file", "--batch-command")
_MEASURED_AT_ONCE = 400
_ASKED_AT_ONCE = 60
"""60 ids of 64 digits and a newline fit into 4,096 bytes, which any pipe can buffer, so that neither side blocks."""
_CACHED_ENTRIES = 100_000
"""Tree entries kept in the cache, about 40 MB; a head and the candidates on it have fewer, and share them."""


class Entry(NamedTuple):
    """An entry of a tree: `mode` has six digits, `name` is one path component (undecodable bytes as surrogates)."""

    mode: str
    name: str
    oid: str

    @property
    def is_tree(self) -> bool:
        return self.mode == TREE_MODE

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file, not a symbolic link or a submodule."""
        return self.mode in _FILE_MODES


class Change(NamedTuple):
    """A path that differs between two trees; a side is None if the path does not exist there.

    A side is a tree only if the other is something else: a directory on one side is a file on the other.
    """

    path: str
    old: Entry | None
    new: Entry | None


class Writer(Protocol):
    """Stores objects."""

    def write(self, kind: str, data: bytes) -> str:
        """Write `data`, the raw content of a `blob`, `tree` or `commit`, and return the object id."""
        ...


class Objects:
    """The object database of one repository; thread-safe.

    With `writer`, objects are written elsewhere, and of them only trees can be read, as long as they are cached.
    """

    def __init__(self, git: Git, writer: Writer | None = None) -> None:
        self._helper: Child = Child(git.directory, _HELPER, git.variables)
        self._writer: Writer = writer or ObjectWriter(git)
        self._trees: OrderedDict[str, tuple[Entry, ...]] = OrderedDict()
        self._cached_entries: int = 0
        self._lock: threading.Lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the helper process; a later call starts it again."""
        self._helper.close()

    def read(self, oid: str) -> bytes:
        """Return the raw content of the object `oid`. Raises GitError if there is none."""
        return self._ask(oid)[1]

    def measure(self, oids: Sequence[str]) -> dict[str, int]:
        """Map each object to its size in bytes, without reading its content; missing objects are left out."""
        sizes: dict[str, int] = {}
        # In batches, so that neither side blocks on a full pipe.
        for start in range(0, len(oids), _MEASURED_AT_ONCE):
            part = oids[start : start + _MEASURED_AT_ONCE]
            request = "".join(f"info {oid}\n" for oid in part).encode()
            lines = self._helper.ask(request, partial(_read_lines, len(part)))
            sizes |= {fields[0]: int(fields[2]) for line in lines if len(fields := line.split(" ")) == 3}
        return sizes

    def measure_tree(self, treeish: str) -> int:
        """Return the total size in bytes of all files below `treeish`."""
        blobs = [entry.oid for _, entry in self.walk(treeish)]
        sizes = self.measure(tuple(dict.fromkeys(blobs)))
        return sum(sizes.get(oid, 0) for oid in blobs)

    def read_each(self, oids: Sequence[str]) -> Iterator[bytes]:
        """Yield the raw content of each object in the order of `oids`, full ids. Raises GitError if one is missing.

        Requests are batched: each exchange costs two context switches, and more on a busy machine.
        """
        for start in range(0, len(oids), _ASKED_AT_ONCE):
            names = oids[start : start + _ASKED_AT_ONCE]
            yield from (data for _, data in self._ask_all(names))

    def read_tree(self, treeish: str) -> tuple[Entry, ...]:
        """Return the entries of the tree `treeish` (the id of a tree or a commit), in git's order."""
        with self._lock:
            if treeish in self._trees:
                self._trees.move_to_end(treeish)
                return self._trees[treeish]
        oid, data = self._ask(f"{treeish}^{{tree}}")
        entries = parse_tree(data, len(oid) // 2)
        if len(treeish) == len(oid):  # Any name but a full id may later refer to something else.
            self._cache(treeish, entries)
        return entries

    def _cache(self, oid: str, entries: tuple[Entry, ...]) -> None:
        with self._lock:
            if oid in self._trees:
                return
            self._trees[oid] = entries
            self._cached_entries += len(entries)
            while self._cached_entries > _CACHED_ENTRIES:
                self._cached_entries -= len(self._trees.popitem(last=False)[1])

    def find_tree(self, commit: str) -> str:
        """Return the id of the tree of `commit`. Raises GitError if there is none."""
        return self._ask(f"{commit}^{{tree}}")[0]

    def find_entry(self, treeish: str, path: str) -> Entry | None:
        """Return the entry at `path` ("" or "." is the tree itself), or None."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        entry: Entry | None = Entry(TREE_MODE, "", treeish)
        for part in parts:
            if entry is None or not entry.is_tree:
                return None
            entry = next((found for found in self.read_tree(entry.oid) if found.name == part), None)
        return entry

    def walk(self, treeish: str, under: str = "") -> Iterator[tuple[str, Entry]]:
        """Yield every path below the folder `under` except folders, relative to the top, with its entry."""
        start = self.find_entry(treeish, under)
        if start is None or not start.is_tree:
            return
        folders = [(_normalize(under), start)]
        while folders:
            folder, tree = folders.pop()
            for entry in self.read_tree(tree.oid):
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_tree:
                    folders.append((path, entry))
                else:
                    yield path, entry

    def diff(self, old: str, new: str, under: str = "") -> list[Change]:
        """List the differences between two trees below the folder `under`, sorted by path; equal subtrees are not read.

        A folder that exists on one side only is listed file by file.
        """
        before, after = self.find_entry(old, under), self.find_entry(new, under)
        return list(self._diff(_normalize(under), before, after))

    def _diff(self, path: str, old: Entry | None, new: Entry | None) -> Iterator[Change]:
        if old and new and (old.mode, old.oid) == (new.mode, new.oid):
            return
        sides = [side for side in (old, new) if side]
        if not sides or not all(side.is_tree for side in sides):
            if sides:
                yield Change(path, old, new)
            return
        before, after = (frozenset(self.read_tree(side.oid)) if side else frozenset[Entry]() for side in (old, new))
        gone = {entry.name: entry for entry in before - after}
        come = {entry.name: entry for entry in after - before}
        for name in sorted(gone.keys() | come.keys()):
            yield from self._diff(f"{path}/{name}" if path else name, gone.get(name), come.get(name))

    def write(self, kind: str, data: bytes) -> str:
        """Write `data` durably as an object of the given kind (`blob`, `tree`, `commit`) and return its id."""
        return self._writer.write(kind, data)

    def write_blob(self, data: bytes) -> str:
        """Write `data` as a blob and return its id."""
        return self.write("blob", data)

    def edit_tree(self, treeish: str, changes: Mapping[str, str | None]) -> str:
        """Write a copy of `treeish` with each blob of `changes` at its path (None removes the path) and return its id.

        An existing file keeps its mode; any other path becomes a regular file. Folders that become empty are dropped.
        Raises ValueError for a path that git would refuse.
        """
        edits: dict[str, tuple[str | None, str] | None] = {}
        for path, oid in changes.items():
            edits[_check_path(path)] = None if oid is None else (None, oid)
        return self._edit(treeish, edits) or self._write_tree(())

    def put_entries(self, treeish: str, entries: Mapping[str, Entry | None]) -> str:
        """Like `edit_tree`, but take the mode from the given entries."""
        edits = {_check_path(path): (entry.mode, entry.oid) if entry else None for path, entry in entries.items()}
        return self._edit(treeish, edits) or self._write_tree(())

    def _edit(self, treeish: str | None, edits: Mapping[str, tuple[str | None, str] | None]) -> str | None:
        """Return the id of the edited tree, or None if it would be empty."""
        entries = {entry.name: entry for entry in self.read_tree(treeish)} if treeish else {}
        below: dict[str, dict[str, tuple[str | None, str] | None]] = {}
        for path, edit in edits.items():
            name, _, rest = path.partition("/")
            if rest:
                below.setdefault(name, {})[rest] = edit
            else:
                _apply(entries, name, edit)
        for name, inner in below.items():
            found = entries.get(name)
            folder = found.oid if found and found.is_tree else None
            if folder is None and not any(inner.values()):
                continue  # All edits are removals, and the folder does not exist.
            edited = self._edit(folder, inner)
            _apply(entries, name, (TREE_MODE, edited) if edited else None)
        return self._write_tree(entries.values()) if entries else None

    def _write_tree(self, entries: Iterable[Entry]) -> str:
        found = tuple(sorted(entries, key=_sorting_name))
        oid = self.write("tree", serialize_tree(found))
        self._cache(oid, found)
        return oid

    def _ask(self, name: str) -> tuple[str, bytes]:
        return self._ask_all((name,))[0]

    def _ask_all(self, names: Sequence[str]) -> list[tuple[str, bytes]]:
        for name in names:
            if not name or "\n" in name:
                raise GitError(_HELPER, 128, f"{name!r} cannot name an object")
        request = "".join(f"contents {name}\n" for name in names).encode()
        answers = self._helper.ask(request, lambda pipe: [_read_object(pipe) for _ in names])
        for name, found in zip(names, answers, strict=True):
            if found is None:
                raise GitError(_HELPER, 128, f"the repository has no object {name}")
        return [found for found in answers if found]


def _apply(entries: dict[str, Entry], name: str, edit: tuple[str | None, str] | None) -> None:
    found = entries.get(name)
    if edit is None:
        entries.pop(name, None)
        return
    mode, oid = edit
    kept = found.mode if found and found.is_file else FILE_MODE
    entries[name] = Entry(mode or kept, name, oid)


def _normalize(folder: str) -> str:
    return "/".join(part for part in folder.split("/") if part not in ("", "."))


def _check_path(path: str) -> str:
    if "\0" in path or any(part in ("", ".", "..") or part.casefold() == ".git" for part in path.split("/")):
        raise ValueError(f"{path!r} cannot be a path in a git tree")
    return path


def parse_tree(data: bytes, id_bytes: int) -> tuple[Entry, ...]:
    """Parse a raw tree object with ids of `id_bytes` bytes (20 for SHA-1, 32 for SHA-256)."""
    pattern = _ENTRIES[id_bytes]
    # Written out for speed: a folder of a thousand files is read again after each landing in it.
    return tuple(
        [
            Entry(_MODES.get(mode) or mode.decode("ascii").zfill(6), name.decode("utf-8", "surrogateescape"), oid.hex())
            for mode, name, oid in pattern.findall(data)
        ]
    )


def serialize_tree(entries: Iterable[Entry]) -> bytes:
    """Return the raw tree object of `entries`, which must be in git's order."""
    parts: list[bytes] = []
    for mode, name, oid in entries:
        parts += (f"{mode.lstrip('0')} {name}\0".encode("utf-8", "surrogateescape"), bytes.fromhex(oid))
    return b"".join(parts)


def _sorting_name(entry: Entry) -> bytes:
    # Git sorts folders as if their names ended with a slash.
    name = entry.name.encode("utf-8", "surrogateescape")
    return name + b"/" if entry.is_tree else name


def _read_line(pipe: IO[bytes]) -> str:
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise Died
    return line.decode("ascii").strip()


def _read_lines(count: int, pipe: IO[bytes]) -> list[str]:
    return [_read_line(pipe) for _ in range(count)]


def _read_object(pipe: IO[bytes]) -> tuple[str, bytes] | None:
    """Read one answer of `contents` (`<oid> <type> <size>`, content, newline) as id and content.

    None if the object is missing or ambiguous.
    """
    header = _read_line(pipe).split(" ")
    if header[-1] in ("missing", "ambiguous") or len(header) < 3:
        return None
    size = int(header[-1])
    content = pipe.read(size + 1)
    if len(content) != size + 1:
        raise Died
    return header[0], content[:-1]
