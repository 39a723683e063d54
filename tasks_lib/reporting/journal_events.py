"""Names what a run's journal contains: the events, and the causes for which a node waits."""

from enum import StrEnum


class JournalEvent(StrEnum):
    """An event of a journal. Those with a dot are Prefect events too, as `coordinator.<event>`.

    `BEGUN`, `SAID`, `JUDGED`, `SUMMARIZED`, with what an agent wrote about the run, and `SUMMED`, with the figures in
    which runs are compared, are about the run, `REQUESTED` and `TURNED` also about it if they name no node, the others
    about a node. `STAGE`, `ENDED`, `REOPENED` and `CONFLICT_EXPECTED` are
    what the status board shows.
    """

    BEGUN = "begun"
    STAGE = "stage"
    ENDED = "ended"
    REOPENED = "reopened"
    CONFLICT_EXPECTED = "conflict-expected"
    SAID = "said"
    JUDGED = "judged"
    SUMMED = "summed"
    SUMMARIZED = "run.summarized"
    TURNED = "session.turned"
    REVIEWED = "session.reviewed"
    WAITED = "node.waited"
    RETRYING = "node.retrying"
    ANSWERED = "node.answered"
    REQUESTED = "node.requested"
    REFUSED = "merge.refused"


class Cause(StrEnum):
    """What a node waits for; `WORK` is none of it: its worktree, setup, session and review are at work.

    `VERIFY` is the verification of its own merge, `QUEUE` that of others. `HELD` is a queue that nothing may land
    through, `RETRY` the delay before another attempt.
    """

    WORK = "work"
    DEPENDENCY = "dependency"
    SLOT = "slot"
    QUEUE = "queue"
    VERIFY = "verify"
    PERSON = "person"
    LIMIT = "limit"
    RETRY = "retry"
    HELD = "held"
