"""Verifies commits in a worktree whose content is checked against them, and tells a broken gate from red work."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tasks_lib.errors import GitError
from tasks_lib.git.inspection.worktree_content import ContentChecker, list_changed
from tasks_lib.git.objects.alternates import find_alternates_file, read_alternates
from tasks_lib.git.worktrees.lifecycle import VERIFY, Worktree
from tasks_lib.landing.results import Held
from tasks_lib.landing.verify_results import hold_red_base
from tasks_lib.model import Stage
from tasks_lib.naming import show_some
from tasks_lib.runtime.run_context import Run
from tasks_lib.runtime.setup_and_verify import Green, Red, run_verify
from tasks_lib.verify_output import KILLED

_CHECK_OUT = "git checkout"
_SECONDS = re.compile(r"\d+\.\d+")
_TRIES = 2
"""A worktree that differs from its commit is discarded; if a second one differs as well, it is not by chance."""


class Verifier:
    """Runs `verify` on one commit at a time, and remembers the green ones."""

    def __init__(self, run: Run, verifying: Callable[[], AbstractContextManager[None]]) -> None:
        """`verifying` returns the context manager in which `verify` runs."""
        self._run = run
        self._verifying = verifying
        self._green: dict[str, Green] = {}
        self._worktree: Worktree | None = None
        self._prover = ContentChecker(run.git.isolation, run.git.objects, run.git.repository.hash_bytes)
        self._said: set[str] = set()
        self._alternates = read_alternates(run.git.repository.common_dir)

    async def find_red(self, commit: str, node_id: str) -> Red | None:
        """Return None if `verify` passes on `commit` or is not configured; `node_id` is the node it is for, or ""."""
        if not self._run.settings.verify or commit in self._green:
            return None
        if node_id:
            self._run.board.enter(node_id, Stage.VERIFY)
        log = self._run.log_path(node_id or "head", f"verify-{commit[:12]}")
        result = await self._judge(commit, log)
        if isinstance(result, Red) and result.broken == KILLED:
            # It may have been killed because something else running at the same time needed the memory.
            result = await self._judge(commit, log)
        if isinstance(result, Red):
            return result
        self._green[commit] = result
        return None

    async def find_base_red(self, head: str) -> Held | None:
        """Return None if `verify` passes on `head` alone, else why nothing can land: then no session is to blame."""
        red = await self.find_red(head, "")
        return hold_red_base(red, self._run.project.base_name) if red else None

    async def _judge(self, commit: str, log: Path) -> Green | Red:
        held = await self._hold_worktree(commit)
        if isinstance(held, Worktree):
            with self._verifying():
                return await run_verify(self._run, held, log, lambda: self._report_setup_changes(held))
        return Red(f"{_CHECK_OUT} {commit[:12]}", "does not produce its files", held, str(log), held)

    def find_added_alternates(self) -> str:
        """Return which alternates were added during this run, whose objects may be missing later; "" if none."""
        common_dir = self._run.git.repository.common_dir
        if added := read_alternates(common_dir) - self._alternates:
            where = find_alternates_file(common_dir)
            return f"{where} was changed during this run and now lists {show_some(sorted(added))}; remove that line"
        return ""

    def reuse_result(self, known: str, commit: str) -> None:
        """Reuse the result of the commit `known` for `commit`, which has nothing else that `verify` checks."""
        if known in self._green:
            self._green[commit] = self._green[known]

    def forget(self, commit: str) -> None:
        """Verify `commit` again the next time."""
        self._green.pop(commit, None)

    def result_of(self, commit: str) -> Green:
        """Return the result for `commit`, which is green, with the lines of `verify` that ran no test."""
        return self._green.get(commit, Green())

    def say_once(self, message: str) -> None:
        """Show a message about the gate, once per run, also if only the seconds of a test runner differ in it."""
        kind = _SECONDS.sub("", message)
        if kind not in self._said:
            self._said.add(kind)
            self._run.board.say(message)

    async def close(self) -> None:
        if self._worktree:
            await self._run.git.call(self._run.git.worktrees.release, self._worktree)
            self._worktree = None

    async def _hold_worktree(self, commit: str) -> Worktree | str:
        """Return a worktree that contains exactly `commit`, or why there is none."""
        why = ""
        for _ in range(_TRIES):
            try:
                worktree = await self._open_worktree(commit)
                proof = await self._run.git.call(self._prover.prove, worktree, commit)
            except GitError as error:
                why = str(error)
                await self._drop_worktree()
                continue
            for note in (*self._run.git.worktrees.take_warnings(), *proof.notes):
                self.say_once(note)
            if not proof.wrong:
                return worktree
            why = f"{worktree.path}: {proof.wrong}"
            await self._drop_worktree()
        return why

    async def _open_worktree(self, commit: str) -> Worktree:
        if self._worktree is None:
            self._worktree = await self._run.git.call(self._run.git.worktrees.open_detached, commit, VERIFY)
        else:
            await self._run.git.call(self._run.git.worktrees.switch, self._worktree, commit)
        return self._worktree

    async def _drop_worktree(self) -> None:
        if self._worktree:
            await self._run.git.call(self._run.git.worktrees.remove, self._worktree)
            self._worktree = None

    async def _report_setup_changes(self, worktree: Worktree) -> None:
        """Report tracked files that `setup` changed before `verify`; it may do so, because it is the user's."""
        if not self._run.settings.setup:
            return
        changed = await self._run.git.call(list_changed, self._run.git.isolation.checking_out(worktree))
        if changed:
            self.say_once(f"`setup` changes tracked files before `verify` runs: {show_some(changed)}.")
