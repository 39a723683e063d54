"""Decides whether anything that an attempt at a node depends on is new since the node was last blocked."""

import hashlib
import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class AttemptInputs:
    """Everything that an attempt depends on; texts are "" for none.

    `work` identifies what the branch changes apart from its own task file. Of the head it started from, only `task`,
    the blob of its own task file, and `prerequisites`, the blobs of the tasks before it, count; a person's answers are
    among these. Unrelated work that lands would otherwise make every attempt look new. `notes` are of earlier attempts,
    with what a resolver or a person said. `settings` identifies how sessions are prepared and run.
    """

    work: str = ""
    task: str = ""
    prerequisites: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    settings: str = ""
    role: str = ""
    model: str = ""


@dataclass(slots=True)
class Dispatches:
    """What one run dispatched after blockers: how many attempts, and how many with a fingerprint of the node's before.

    `refused` are the ids of nodes whose attempt was not dispatched because nothing was new.
    """

    after_blockers: int = 0
    repeated: int = 0
    refused: list[str] = field(default_factory=list[str])
    _seen: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    def note(self, node_id: str, fingerprint: str, *, is_after_block: bool) -> None:
        """An attempt of `node_id` begins, or continues in this run."""
        seen = self._seen.setdefault(node_id, set())
        self.after_blockers += is_after_block
        self.repeated += is_after_block and fingerprint in seen
        seen.add(fingerprint)

    def refuse(self, node_id: str) -> None:
        self.refused.append(node_id)

    def describe(self) -> str:
        """One sentence for the report, "" if no node was blocked."""
        if not self.after_blockers and not self.refused:
            return ""
        said = f"{self.after_blockers} attempts began after a blocker, {self.repeated} of them with nothing new"
        return f"{said}; {len(self.refused)} more were refused because nothing was new."


def digest_inputs(inputs: AttemptInputs) -> str:
    """The fingerprint of `inputs`: 16 hex digits, equal exactly for what an agent could not tell apart."""
    return _digest(asdict(inputs))


def digest_situation(inputs: AttemptInputs) -> str:
    """The same without the notes: whether work, task, prerequisites or configuration differ since the last blocker.

    The notes of a blocked attempt always differ, because they count attempts and quote the agent.
    """
    return _digest({name: value for name, value in asdict(inputs).items() if name != "notes"})


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:16]
