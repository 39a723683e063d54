"""Checks for `coordinator doctor` whether the programs that the configuration names are where they are looked up."""

import asyncio
import os
from collections.abc import Iterator, Sequence

from flows.cli.commands.doctor_check import Check, fail, ok, warn
from flows.cli.commands.program_words import PLAIN_WORD, find_program_word
from tasks_lib.agents.command_backend import check_command, find_root_fault
from tasks_lib.agents.presets.examination import examine
from tasks_lib.agents.presets.known import PRESETS
from tasks_lib.engine.run_lifecycle import NO_VERIFY
from tasks_lib.errors import CoordinatorError, InputError
from tasks_lib.git.git_program import local_variables
from tasks_lib.git.objects.object_database import Objects
from tasks_lib.process.allowed_variables import scrub
from tasks_lib.process.private_directories import private_directory
from tasks_lib.process.program_lookup import find_program
from tasks_lib.process.user_environment import user_environment
from tasks_lib.project.child_environment import ChildEnvironments, find_hidden_bin, find_own_bin
from tasks_lib.project.loading import CONFIGURATION, Project
from tasks_lib.runtime.backend_factory import NO_AGENT, ExaminedBackend, examine_backend
from tasks_lib.settings.schema import Settings

SLOW_SECONDS = 5.0
"""How long the MCP servers of a session may take to start before it is worth a warning."""


def check_verify(settings: Settings, project: Project | None) -> Check:
    """Check that landed work is tested, by programs that are there; `project` is None while the input has errors."""
    if not settings.verify:
        return warn("verify", NO_VERIFY)
    lines = ", ".join(f"`{line}`" for line in settings.verify)
    if settings.wrapper:
        return ok("verify", f"{lines}; `{settings.wrapper[0]}` looks up the programs itself")
    search_path = _find_path(settings.env.verify, project)
    missing = [word for line in settings.verify if (word := find_program_word(line))]
    missing = [word for word in dict.fromkeys(missing) if not _is_there(word, search_path, project)]
    if not missing or settings.setup:  # What `setup` installs is not there yet.
        return ok("verify", lines)
    names = ", ".join(f"`{word}`" for word in missing)
    how = _tell_hidden(missing, search_path) or "install it, or correct verify"
    return warn("verify", f"{lines}; but there is no {names} ({search_path}): {how}")


def _tell_hidden(missing: Sequence[str], search_path: str) -> str:
    """Say what to do about programs that are only in coordinator's own environment; "" if they are not there."""
    own = find_own_bin()
    if not own or own in search_path.split(":") or not all(find_program(word, own) for word in missing):
        return ""
    return f"{own} has it, but is coordinator's own environment, which `verify` does not see; install it elsewhere"


def _is_there(word: str, search_path: str, project: Project | None) -> bool:
    """Whether a program is on `search_path` or, if `word` is a relative path, committed at the head."""
    if "/" not in word or word.startswith("/"):
        return find_program(word, search_path) is not None
    if project is None:
        return True
    with Objects(project.repository.git) as objects:
        return objects.find_entry(project.head, word) is not None


def _find_path(allowed: Sequence[str], project: Project | None) -> str:
    """Return the PATH that programs get which may see the variables `allowed`."""
    return _find_variables(allowed, project).get("PATH", os.defpath)


def _find_variables(allowed: Sequence[str], project: Project | None) -> dict[str, str]:
    hidden = find_hidden_bin(project.repository.top) if project else find_own_bin()
    return scrub(user_environment(), allowed, git_variables=local_variables(), own_bin=hidden)


def check_agent(settings: Settings, project: Project | None) -> Iterator[Check]:
    """Check that the configured agent is available; `project` is None while the input has errors."""
    if settings.agent.backend == "opencode":
        yield from check_opencode(project)
    elif settings.agent.preset and not settings.wrapper:
        yield from check_preset(settings.agent.preset, project)
    else:
        yield from check_programs(settings, project)


def check_opencode(project: Project | None) -> Iterator[Check]:
    """Check that an opencode server starts, or the configured one answers, and has what the open tasks need."""
    if project is None:
        yield warn("agent", "opencode was not checked; fix the errors above first")
        return
    try:
        found = asyncio.run(examine_backend(project))
    except InputError as error:
        for fault in error.faults:
            yield fail("agent", str(fault))
    except CoordinatorError as error:
        yield fail("agent", str(error))
    else:
        where = f"the server at {project.settings.agent.url}" if project.settings.agent.url else "a server of its own"
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found.durations.items())
        yield ok("agent", f"opencode, on {where}, has every role and model that the open tasks need ({parts})")
        yield from check_tool_servers(found)


def check_tool_servers(found: ExaminedBackend) -> Iterator[Check]:
    """Warn of MCP servers that give sessions nothing, and may make each of them wait."""
    waited = found.durations.get("MCP servers", 0.0)
    wait = f"each session waits for it before its first prompt, {waited:.0f} s here" if waited >= SLOW_SECONDS else ""
    for server in found.tool_servers:
        if server.reason:
            how = f"repair it, or set `enabled: false` for it in agent.config.mcp of {CONFIGURATION}"
            yield warn("mcp", "; ".join(filter(None, [f"{server.name} gives no tools: {server.reason}", wait, how])))
    if wait and not any(server.reason for server in found.tool_servers):
        names = ", ".join(server.name for server in found.tool_servers)
        yield warn("mcp", f"the MCP servers ({names}) take {waited:.0f} s to start, before each first prompt")


def check_preset(name: str, project: Project | None) -> Iterator[Check]:
    """Check that a known program is there, in a version that is known, and logged in."""
    title = PRESETS[name].title
    if project is None:
        yield warn("agent", f"{title} was not checked; fix the errors above first")
        return
    with private_directory() as private:
        environment = ChildEnvironments(project.settings, project.repository, private).of("agent", 0)
        fault = examine(PRESETS[name], environment, may_be_missing=bool(project.settings.setup))
    yield fail("agent", fault) if fault else ok("agent", f"{title} is there, and logged in or has a key")


def check_programs(settings: Settings, project: Project | None) -> Iterator[Check]:
    """Check that the agent and its wrapper are programs on the PATH that they will be given, or in the repository."""
    if not settings.agent.program:
        yield fail("agent", NO_AGENT)
        return
    variables = _find_variables(settings.env.agent, project)
    search_path = variables.get("PATH", os.defpath)
    if settings.wrapper:
        if fault := check_command(settings.wrapper, search_path):
            yield fail("wrapper", fault)
        else:
            yield ok("wrapper", f"found `{settings.wrapper[0]}`; it looks up the agent itself")
        return
    program = settings.agent.program[0]
    fault = check_command(settings.agent.program, search_path) or find_root_fault(settings.agent.command, variables)
    if fault:
        yield fail("agent", fault)
    elif PLAIN_WORD.fullmatch(program) and not _is_there(program, search_path, project):
        yield warn("agent", f"`{program}` is not in the repository at the head; commit it, unless `setup` makes it")
    else:
        yield ok("agent", f"found `{program}`, as set in {CONFIGURATION}")
