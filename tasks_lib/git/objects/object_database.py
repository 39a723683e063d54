"""Reads and writes git objects with few processes: read through one child, trees edited and written in memory."""

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import IO, NamedTuple, Self

from tasks_lib.errors import GitError
from tasks_lib.git.objects.helper_process import Child, Died
from tasks_lib.git.objects.object_writer import ObjectWriter
from tasks_lib.git.runner import Git

TREE_MODE = "040000"
FILE_MODE = "100644"
_FILE_MODES = frozenset({"100644", "100755", "100664"})
_MODES = {b"100644": "100644", b"100755": "100755", b"40000": TREE_MODE, b"120000": "120000", b"160000": "160000"}
_ENTRIES = {size: re.compile(rb"(\d+) ([^\0]+)\0(.{%d})" % size, re.DOTALL) for size in (20, 32)}
_MEASURED_AT_ONCE = 400
_ASKED_AT_ONCE = 60
"""Ids of 64 digits and a newline below 4,096 bytes: what any pipe holds, so that neither side waits for the other."""
_CACHED_ENTRIES = 100_000
"""Entries of parsed trees that are kept, some 40 MB; a head and the candidates on it have fewer, and share them."""


class Entry(NamedTuple):
    """One line of a tree: `mode` has six digits, `name` is one path part (undecodable bytes as surrogates)."""

    mode: str
    name: str
    oid: str

    @property
    def is_tree(self) -> bool:
        return self.mode == TREE_MODE

    @property
    def is_file(self) -> bool:
        """A regular file: no symbolic link, no submodule."""
        return self.mode in _FILE_MODES


class Change(NamedTuple):
    """A path that differs between two trees; a side is None where there is nothing.

    One side is a tree only where the other is not: then a directory stands where the other has a file.
    """

    path: str
    old: Entry | None
    new: Entry | None


class Objects:
    """The object database of one repository; every method may be called from several threads."""

    def __init__(self, git: Git) -> None:
        self._reader: Child = Child(git.directory, ("cat-file", "--batch"))
        self._measurer: Child = Child(git.directory, ("cat-file", "--batch-check"))
        self._writer: ObjectWriter = ObjectWriter(git)
        self._trees: OrderedDict[str, tuple[Entry, ...]] = OrderedDict()
        self._cached_entries: int = 0
        self._lock: threading.Lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the helper process; a later call starts it again."""
        self._reader.close()
        self._measurer.close()

    def read(self, oid: str) -> bytes:
        """The raw content of the object that `oid` names. Raises GitError if there is none."""
        return self._ask(oid)[1]

    def measure(self, oids: Sequence[str]) -> dict[str, int]:
        """The size in bytes of each object, without reading it; one that is missing is left out."""
        sizes: dict[str, int] = {}
        # Few at a time, so that neither side waits for the other to empty a full pipe.
        for start in range(0, len(oids), _MEASURED_AT_ONCE):
            part = oids[start : start + _MEASURED_AT_ONCE]
            request = "".join(f"{oid}\n" for oid in part).encode()
            lines = self._measurer.ask(request, partial(_read_lines, len(part)))
            sizes |= {fields[0]: int(fields[2]) for line in lines if len(fields := line.split(" ")) == 3}
        return sizes

    def measure_tree(self, treeish: str) -> int:
        """The size in bytes of all files below `treeish`."""
        blobs = [entry.oid for _, entry in self.walk(treeish)]
        sizes = self.measure(tuple(dict.fromkeys(blobs)))
        return sum(sizes.get(oid, 0) for oid in blobs)

    def read_each(self, oids: Sequence[str]) -> Iterator[bytes]:
        """The raw content of each object, in the order of their full ids. Raises GitError where there is none.

        Many are asked for at once: each question and answer costs two changes of process, more on a busy machine.
        """
        for start in range(0, len(oids), _ASKED_AT_ONCE):
            names = oids[start : start + _ASKED_AT_ONCE]
            yield from (data for _, data in self._ask_all(names))

    def read_tree(self, treeish: str) -> tuple[Entry, ...]:
        """The entries of the tree, or of the commit's tree, that `treeish` (an object id) names, in git's order."""
        with self._lock:
            if treeish in self._trees:
                self._trees.move_to_end(treeish)
                return self._trees[treeish]
        oid, data = self._ask(f"{treeish}^{{tree}}")
        entries = parse_tree(data, len(oid) // 2)
        if len(treeish) == len(oid):  # A name that is no full id may mean something else tomorrow.
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
        """The id of the tree of `commit`. Raises GitError if there is none."""
        return self._ask(f"{commit}^{{tree}}")[0]

    def find_entry(self, treeish: str, path: str) -> Entry | None:
        """The entry at `path` ("" or "." is the tree itself), or None."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        entry: Entry | None = Entry(TREE_MODE, "", treeish)
        for part in parts:
            if entry is None or not entry.is_tree:
                return None
            entry = next((found for found in self.read_tree(entry.oid) if found.name == part), None)
        return entry

    def walk(self, treeish: str, under: str = "") -> Iterator[tuple[str, Entry]]:
        """Every path below the folder `under` that is no folder, with its entry; paths start at the top."""
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
        """What differs between two trees below the folder `under`, by path; equal subtrees are not opened.

        A folder that one side has not at all is listed file by file.
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
        """Write `data` as an object of the given kind (`blob`, `tree`, `commit`), durably, and return its id."""
        return self._writer.write(kind, data)

    def write_blob(self, data: bytes) -> str:
        """Write `data` as a blob and return its id."""
        return self.write("blob", data)

    def edit_tree(self, treeish: str, changes: Mapping[str, str | None]) -> str:
        """Write `treeish` with the blobs of `changes` put at their paths, and the paths of None removed.

        A path that exists as a file keeps its mode, another becomes a plain file. Folders that become empty vanish.
        Raises ValueError for a path that git would refuse.
        """
        edits: dict[str, tuple[str | None, str] | None] = {}
        for path, oid in changes.items():
            edits[_check_path(path)] = None if oid is None else (None, oid)
        return self._edit(treeish, edits) or self._write_tree(())

    def put_entries(self, treeish: str, entries: Mapping[str, Entry | None]) -> str:
        """Like `edit_tree`, with the mode taken from the given entry."""
        edits = {_check_path(path): (entry.mode, entry.oid) if entry else None for path, entry in entries.items()}
        return self._edit(treeish, edits) or self._write_tree(())

    def _edit(self, treeish: str | None, edits: Mapping[str, tuple[str | None, str] | None]) -> str | None:
        """The id of the edited tree, or None if nothing is left in it."""
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
                continue  # Nothing to remove: there is no such folder.
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
                raise GitError(("cat-file", "--batch"), 128, f"{name!r} cannot name an object")
        request = "".join(f"{name}\n" for name in names).encode()
        answers = self._reader.ask(request, lambda pipe: [_read_object(pipe) for _ in names])
        for name, found in zip(names, answers, strict=True):
            if found is None:
                raise GitError(("cat-file", "--batch"), 128, f"the repository has no object {name}")
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
    """The entries of a raw tree object whose ids are `id_bytes` long (20 for SHA-1, 32 for SHA-256)."""
    pattern = _ENTRIES[id_bytes]
    # Spelled out for speed: a folder of a thousand files is read anew after each landing in it.
    return tuple(
        [
            Entry(_MODES.get(mode) or mode.decode("ascii").zfill(6), name.decode("utf-8", "surrogateescape"), oid.hex())
            for mode, name, oid in pattern.findall(data)
        ]
    )


def serialize_tree(entries: Iterable[Entry]) -> bytes:
    """The raw tree object of `entries`, which are in git's order."""
    parts: list[bytes] = []
    for mode, name, oid in entries:
        parts += (f"{mode.lstrip('0')} {name}\0".encode("utf-8", "surrogateescape"), bytes.fromhex(oid))
    return b"".join(parts)


def _sorting_name(entry: Entry) -> bytes:
    # Git orders folders as if their names ended with a slash.
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
    """One answer of `cat-file --batch`: `<oid> <type> <size>`, the content and a newline; None if it is missing."""
    header = _read_line(pipe).split(" ")
    if header[-1] in ("missing", "ambiguous") or len(header) < 3:
        return None
    size = int(header[-1])
    content = pipe.read(size + 1)
    if len(content) != size + 1:
        raise Died
    return header[0], content[:-1]
