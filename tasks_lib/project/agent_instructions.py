"""Reads a repository's instructions for agents from one commit: AGENTS.md and the like, its prompts and its roles."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from posixpath import dirname, normpath
from typing import Any

from tasks_lib.agents.opencode.config.instruction_paths import is_pattern, matches_entry, split_instructions
from tasks_lib.agents.opencode.config.roles import PLACES, read_roles
from tasks_lib.errors import Fault, InputError
from tasks_lib.git.objects.object_database import Entry, Objects
from tasks_lib.git.repository import Repository
from tasks_lib.project.loading import CONFIGURATION, Project
from tasks_lib.prompts.agent_prompts import InstructionFile
from tasks_lib.prompts.templates import DEFAULT, PromptName, TemplateFile, Templates, read_templates
from tasks_lib.settings.schema import Settings

AGENTS_FILE = "AGENTS.md"
CLAUDE_FILE = "CLAUDE.md"
MAX_BYTES = 200_000
"""The limit for one file; a larger one is almost certainly the wrong file."""
MAX_ROLES = 200
_LINK = "120000"
_MAX_LINKS = 5


@dataclass(frozen=True, slots=True)
class Instructions:
    """`files` are those whose text every first prompt contains, AGENTS.md first; `roles` maps path → text."""

    files: tuple[InstructionFile, ...] = ()
    templates: Templates = DEFAULT
    roles: Mapping[str, str] = field(default_factory=dict[str, str])


NO_INSTRUCTIONS = Instructions()


def read_instructions(objects: Objects, commit: str, settings: Settings) -> Instructions:
    """Read the instructions at `commit`, an object id, for the agent that `settings` choose.

    Raises InputError with every fault in these files: missing, too large, not UTF-8, an unknown placeholder.
    """
    reader = _Reader(objects, commit)
    files = reader.read_prompts(settings.prompts)
    roles = reader.read_roles() if settings.agent.backend == "opencode" else {}
    shown = reader.read_files(settings)
    try:
        templates = read_templates(files)
    except InputError as error:
        raise InputError({*reader.faults, *error.faults}) from None
    if reader.faults:
        raise InputError(set(reader.faults))
    return Instructions(shown, templates, roles)


def find_instruction_faults(repository: Repository, commit: str, settings: Settings) -> tuple[Fault, ...]:
    """Return the faults of the repository's instructions for agents at `commit`."""
    objects = Objects(repository.git)
    faults: set[Fault] = set()
    try:
        instructions = read_instructions(objects, commit, settings)
        faults.update(instructions.templates.warnings)
        read_roles(instructions.roles)
    except InputError as error:
        faults.update(error.faults)
    finally:
        objects.close()
    return tuple(sorted(faults))


def read_project_instructions(project: Project) -> Instructions:
    """Read the project's instructions for agents at the commit from which the run starts."""
    objects = Objects(project.repository.git)
    try:
        return read_instructions(objects, project.head, project.settings)
    finally:
        objects.close()


class _Reader:
    """Reads text files of one commit and collects their faults."""

    def __init__(self, objects: Objects, commit: str) -> None:
        self.faults: list[Fault] = []
        self._objects = objects
        self._commit = commit

    def read_files(self, settings: Settings) -> tuple[InstructionFile, ...]:
        """Return the files that prompts quote, because the agent is kept from reading them where branches change them.

        Other agents of the backend `command`, and a server that the user started, find them in the worktree.
        """
        agent = settings.agent
        if agent.preset:
            names = (AGENTS_FILE, CLAUDE_FILE) if agent.preset == "claude" else (AGENTS_FILE,)
            return self._quote(names) or self._quote((CLAUDE_FILE,))
        if agent.backend == "opencode" and not agent.url:
            return self._quote(dict.fromkeys((AGENTS_FILE, *self._list_configured(agent.config))))
        return ()

    def _quote(self, paths: Iterable[str]) -> tuple[InstructionFile, ...]:
        """Return those of `paths` that there are; one text is quoted once, as AGENTS.md is often a link."""
        texts: dict[str, str] = {}
        for path in paths:
            if text := self.read(path):
                texts.setdefault(text, path)
        return tuple(InstructionFile(path, text) for text, path in texts.items())

    def _list_configured(self, config: Mapping[str, Any]) -> Iterator[str]:
        """The files of the repository that `instructions` in opencode's configuration names."""
        for entry in split_instructions(config)[0]:
            if is_pattern(entry):
                yield from sorted(path for path, _ in self._objects.walk(self._commit) if matches_entry(entry, path))
            elif self._find_file(entry):
                yield entry
            else:
                self._miss("agent.config.instructions", entry)

    def _miss(self, key: str, path: str) -> None:
        message = f'{key} names "{path}", which is not a file at commit {self._commit[:10]}; commit it'
        self.faults.append(Fault(CONFIGURATION, 0, message))

    def read_prompts(self, paths: Mapping[PromptName, str]) -> dict[PromptName, TemplateFile]:
        """Return the files that `prompts` names, except those with faults."""
        found: dict[PromptName, TemplateFile] = {}
        for name, path in paths.items():
            known = len(self.faults)
            text = self.read(path)
            if text is not None:
                found[name] = TemplateFile(path, text)
            elif len(self.faults) == known:
                self._miss(f"prompts.{name}", path)
        return found

    def read_roles(self) -> dict[str, str]:
        """Return the repository's roles, path → text."""
        paths = list(self._list_roles())
        if len(paths) > MAX_ROLES:
            message = f"contains {len(paths)} files; at most {MAX_ROLES} roles are read"
            self.faults.append(Fault(dirname(paths[0]), 0, message))
            return {}
        return {path: text for path in paths if (text := self.read(path)) is not None}

    def _list_roles(self) -> Iterator[str]:
        for place in PLACES:
            for path, _ in self._objects.walk(self._commit, place):
                if path.endswith(".md"):
                    yield path

    def read(self, path: str) -> str | None:
        """Return the text at `path`; None if there is no such file, or it has a fault."""
        entry = self._find_file(path)
        if entry is None:
            return None
        data = self._objects.read(entry.oid)
        if len(data) > MAX_BYTES:
            self.faults.append(Fault(path, 0, f"has {len(data)} bytes; agents are given at most {MAX_BYTES} of a file"))
            return None
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            message = f"the byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
            self.faults.append(Fault(path, line, message))
            return None

    def _find_file(self, path: str) -> Entry | None:
        """Find the file at `path`, following symbolic links within the repository, such as one to CLAUDE.md."""
        for _ in range(_MAX_LINKS):
            entry = self._objects.find_entry(self._commit, path)
            if entry is None or entry.mode != _LINK:
                return entry if entry and entry.is_file else None
            target = self._objects.read(entry.oid).decode("utf-8", "surrogateescape")
            path = normpath(f"{dirname(path)}/{target}" if dirname(path) else target)
            if target.startswith("/") or path.startswith("../"):
                return None
        return None
