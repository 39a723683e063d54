"""A remote whose branch moves on every verify or push: the run ends, and reports what moves it."""

from push.remote_harness import RemoteHarness

from tasks_lib.reporting.run_report import ExitCode

TICKER = "git -c user.name=Ticker -c user.email=t@example.org"
ALWAYS = (
    "unset GIT_QUARANTINE_PATH; export GIT_AUTHOR_NAME=Bot GIT_AUTHOR_EMAIL=x GIT_COMMITTER_NAME=Bot GIT_COMMITTER_EMAIL=x\n"
    'git update-ref "$1" $(git commit-tree -p "$1" -m Other "$1^{tree}")'
)
"""A hook of the remote that puts another commit first each time."""


def tick(harness: RemoteHarness) -> str:
    """A verify line that pushes a commit to the target, as when verify records its results there."""
    made = f"{TICKER} commit-tree -p FETCH_HEAD -m tick-$(date +%s%N) 'FETCH_HEAD^{{tree}}'"
    return f"git fetch -q {harness.url} main && git push -q {harness.url} $({made}):refs/heads/main"


def count(subjects: list[str], start: str) -> int:
    return sum(subject.startswith(start) for subject in subjects)


async def test_verify_that_pushes_to_the_target_ends_with_a_publication_pending(shared: RemoteHarness) -> None:
    shared.make({"a": {}, "b": {"depends_on": ["a"]}, "c": {}}, verify=[tick(shared)])
    worked = await shared.work()
    assert worked.names == dict.fromkeys("abc", "Merged")
    assert worked.code is ExitCode.COMPLETED
    assert worked.pending.startswith("others pushed first, ")
    assert '"tick-' in worked.pending
    assert "by Ticker" in worked.pending
    assert "made while verify ran" in worked.pending
    assert count(shared.hub_log(), "tick-") < 30


async def test_remote_that_always_wins_the_race_ends_with_a_publication_pending(shared: RemoteHarness) -> None:
    shared.make({"a": {}, "b": {}}, verify=["true"])
    shared.hook("update", ALWAYS)
    worked = await shared.work()
    assert worked.names == {"a": "Merged", "b": "Merged"}
    assert worked.code is ExitCode.COMPLETED
    assert '"Other" by Bot' in worked.pending
    assert count(shared.hub_log(), "Other") < 15
    shared.unhook("update")
    again = await shared.work()
    assert again.pending == ""
    assert set(shared.hub_log()) == {"Merge feat/a: Do a", "Merge feat/b: Do b", "Other", "Begin"}
