"""Recreates unpublished merges on a base that moved, and takes back those that no longer merge or verify there."""

import asyncio
from dataclasses import dataclass

from tasks_lib.git.branches import create_branch
from tasks_lib.git.commits.commit import read_commit
from tasks_lib.git.commits.commit_messages import TASK
from tasks_lib.git.commits.merge_tree import Conflict
from tasks_lib.git.compose.commit_composer import Candidate
from tasks_lib.git.compose.recompose import recompose
from tasks_lib.git.kept.snapshots import keep_commit
from tasks_lib.landing.added_tasks import find_new_faults
from tasks_lib.landing.candidate_verification import Verifier
from tasks_lib.landing.completed_elsewhere import describe_completed_elsewhere, find_completing_commit, is_completed_at
from tasks_lib.landing.head_moves import HeadMoves
from tasks_lib.landing.results import Held
from tasks_lib.runtime.run_context import Run
from tasks_lib.settings.schema import digest_verify


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The replacement of the unpublished commits: the head moves to `tip`.

    Commits in `taken_back` no longer merge or are red on the new base; the nodes of those in `completed_elsewhere` were
    completed there by somebody else. Both contain commits of the old head, oldest first.
    """

    tip: str
    taken_back: tuple[str, ...]
    completed_elsewhere: tuple[str, ...]


class MergeRebuilder:
    """Rebuilds the unpublished commits of one run. Call it only during a turn to move the head."""

    def __init__(self, run: Run, moves: HeadMoves, verifier: Verifier) -> None:
        self._run = run
        self._moves = moves
        self._verifier = verifier

    async def rebuild(self, base: str, commits: tuple[str, ...]) -> Rebuilt | Held:
        """Recreate `commits`, oldest first, on `base` and verify each of them; moves no ref.

        Returns Held if `verify` is red without them, because then it cannot show which of them are good.
        """
        call, tip = self._run.git.call, base
        taken_back: list[str] = []
        completed_elsewhere: list[str] = []
        for commit in commits:
            if await call(self._is_completed_elsewhere, commit, tip):
                completed_elsewhere.append(commit)
                continue
            made = await call(self._compose, commit, tip)
            if made is None:
                taken_back.append(commit)
            elif await self._verifier.find_red(made.commit, ""):
                if held := await self._verifier.find_base_red(tip):
                    return held
                taken_back.append(commit)
            else:
                tip = made.commit
        return Rebuilt(tip, tuple(taken_back), tuple(completed_elsewhere))

    async def apply(self, head: str, rebuilt: Rebuilt) -> None:
        """Move the head from `head` to `rebuilt.tip`, and restore the branches of nodes whose merges are taken back."""
        applying = asyncio.ensure_future(self._apply(head, rebuilt))
        try:
            await asyncio.shield(applying)
        except asyncio.CancelledError:
            # The head may have moved already, and the board must show what landed.
            await applying
            raise

    async def _apply(self, head: str, rebuilt: Rebuilt) -> None:
        run = self._run
        for commit in rebuilt.taken_back:
            run.board.say(await run.git.call(self._restore_branch, commit))
        for commit in rebuilt.completed_elsewhere:
            await run.git.call(self._keep, commit)
        async with self._moves.taking_back:
            is_moved = await run.git.call(run.git.head.replace, head, rebuilt.tip)
            for commit in rebuilt.taken_back:
                # Again, because before, the branch may still have existed and been about to be deleted as landed.
                await run.git.call(self._restore_branch, commit)
            if is_moved:
                await self._show_taken_back(rebuilt.taken_back)
                await self._show_completed_elsewhere(rebuilt.completed_elsewhere, rebuilt.tip)
        if is_moved:
            self._moves.announce()

    # These block; call them in a git thread.

    def _compose(self, commit: str, onto: str) -> Candidate | None:
        """Recreate `commit` on `onto`; None if it no longer merges or its task files have new errors there."""
        made = recompose(self._moves.composer, commit, onto, digest_verify(self._run.settings))
        if isinstance(made, Conflict) or find_new_faults(self._run.git.reader, made):
            return None
        return made

    def _is_completed_elsewhere(self, commit: str, tip: str) -> bool:
        """Whether somebody else has completed the node of `commit` at `tip`."""
        return is_completed_at(self._run, self._read_task_id(commit), tip)

    def _keep(self, commit: str) -> None:
        keep_commit(self._run.git.repository.git, self._read_task_id(commit), commit)

    def _read_task_id(self, commit: str) -> str:
        return read_commit(self._run.git.objects, commit).trailers.get(TASK, "")

    def _restore_branch(self, commit: str) -> str:
        """Recreate the branch of a merge that is taken back, for the node's next attempt; return a message about it."""
        merge = read_commit(self._run.git.objects, commit)
        task_id = merge.trailers.get(TASK, "")
        if len(merge.parents) > 1 and task_id:
            create_branch(self._run.git.repository, self._run.nodes.branch_of(task_id), merge.parents[1])
        target = self._run.project.base_name
        if merge.subject.startswith("resolved("):
            return f"{task_id} could not be completed on {target}, where its file was changed too; resolve it again."
        return (
            f"{task_id or commit[:12]} no longer merges onto {target}; its branch is kept and the node will run again."
        )

    # Showing the results.

    async def _show_taken_back(self, commits: tuple[str, ...]) -> None:
        for commit in commits:
            if task_id := await self._run.git.call(self._read_task_id, commit):
                self._run.board.take_back(task_id, commit)

    async def _show_completed_elsewhere(self, commits: tuple[str, ...], tip: str) -> None:
        for commit in commits:
            task_id = await self._run.git.call(self._read_task_id, commit)
            theirs = await self._run.git.call(find_completing_commit, self._run, task_id, tip)
            self._run.board.say(describe_completed_elsewhere(task_id, theirs))
            self._run.nodes.remember_landed(task_id, theirs)
            self._run.board.replace_commit(task_id, commit, theirs)
