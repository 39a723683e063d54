"""Puts a node's branch on the radar, and tells its session of the conflicts that are coming."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tasks_lib.git.inspection.content_marks import mark_content
from tasks_lib.git.worktrees.lifecycle import Worktree
from tasks_lib.model import Stage
from tasks_lib.node.attempt_context import AttemptContext
from tasks_lib.node.session_place import runs_elsewhere
from tasks_lib.prompts.conflict_warning import write_conflict_warning
from tasks_lib.runtime.copied_files import is_copied
from tasks_lib.taskfile.sections import get_section
from tasks_lib.text import drop_controls

LISTENING = (Stage.WORKTREE, Stage.SETUP, Stage.SESSION, Stage.GIVEN_BACK)
"""The stages at which a node's agent will get a prompt, or is working on one."""


@dataclass(slots=True)
class BranchInFlight:
    """The branch of the attempt `context`, as the radar needs it; `began` is in seconds since the epoch."""

    context: AttemptContext
    began: float = field(default_factory=time.time)

    @property
    def node(self) -> str:
        return self.context.task.id

    @property
    def worktree(self) -> Worktree:
        return self.context.worktree

    @property
    def is_live(self) -> bool:
        """Sessions on other machines are seen when their work arrives in the worktree."""
        return self.context.record.stage is Stage.SESSION and not runs_elsewhere(self.context)

    @property
    def is_listening(self) -> bool:
        return self.context.record.stage in LISTENING and not self.context.task.is_review

    @property
    def activity(self) -> tuple[str, str]:
        view = self.context.view
        # What a program does is sampled, so a change of that is not the end of a tool.
        is_program = self.context.run.settings.agent.backend == "command"
        return view.active_at, "" if is_program else view.activity

    @property
    def told(self) -> int:
        return len(self.context.record.foreseen.told)

    def make_filter(self) -> Callable[[str], bool]:
        """Return what says of an uncommitted path whether `setup` or a copy made it, not the agent."""
        known = dict(_split(line) for line in self.context.record.findings.prepared)
        copied, top = self.context.run.settings.copy_paths, self.context.worktree.path

        def is_known(path: str) -> bool:
            return is_copied(path, copied) or (path in known and known[path] == mark_content(top / path))

        return is_known

    def show_changes(self, summary: str) -> None:
        """Show on the board how much the branch changes."""
        if summary != self.context.view.diffstat:
            self.context.run.board.show(self.context.task.id, diffstat=summary)

    async def tell(self, paths: Sequence[str], other: str, diff: str) -> bool:
        """Tell the session now, or else with its next prompt; never twice of the same paths, also after a kill."""
        context = self.context
        new = context.record.foreseen.find_new(other, paths)
        if not new or self._is_resolving(other):
            return False
        # Recorded before: a kill in between loses a warning, which is better than to repeat it.
        context.note(foreseen=context.record.foreseen.tell(other, new))
        text = await self._write(new, other, diff)
        if context.record.stage is Stage.SESSION and context.session and await context.session.say(text):
            return True
        context.note(foreseen=context.record.foreseen.hold(text))
        return True

    def _is_resolving(self, other: str) -> bool:
        """Whether its work was given back because of a conflict with what has landed, of which `other` is a part."""
        view = self.context.run.board.node(other)
        return bool(self.context.record.conflicts.commits and view and view.outcome.is_landed)

    async def _write(self, paths: Sequence[str], other: str, diff: str) -> str:
        git = self.context.run.git
        task = self.context.run.nodes.graph.tasks.get(other)
        text = await git.call(git.reader.text, git.head.last_seen(), task.path) if task else None
        goal = get_section(text, "Description") or "" if text else ""
        return drop_controls(write_conflict_warning(paths, other, task.name if task else other, goal, diff))


def _split(line: str) -> tuple[str, str]:
    mark, _, path = line.partition(" ")
    return path, mark


def tell_coming_conflicts(context: AttemptContext, prompt: str) -> str:
    """Return `prompt` with the warnings that the session could not get in its last turn."""
    held = context.record.foreseen.held
    if not held:
        return prompt
    context.note(foreseen=context.record.foreseen.without_held())
    return "\n\n".join(part for part in (*held, prompt) if part)
