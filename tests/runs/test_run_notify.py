"""What a run tells people: once for the life of the graph, in the background, and never the address."""

import json
from pathlib import Path
from typing import Literal

import pytest
from run_harness import RunHarness, reach
from webhook_server import serving

from tasks_lib.engine.run_lifecycle import OpenRun
from tasks_lib.model import NotifyEvent
from tasks_lib.process.notification_channels import WebhookChannel
from tasks_lib.reporting.notifications import Notification
from tasks_lib.runtime.notifier import Notifier, read_told
from tasks_lib.runtime.status_board import Board, RunView
from tasks_lib.settings.notify_schema import NotifySettings

BLOCKS_A = "[ $id = a ] && { git commit -q --allow-empty -m 'blocked(a): The key is missing.'; exit 0; }\nwork"
PERSON = {"assignee": "human"}
LIMIT = Notification(NotifyEvent.LIMIT, "limit r", "The run is stopping: no more")


def make_notifier(place: Path, url: str, *on: Literal["ended"]) -> tuple[Notifier, Board]:
    board = Board(RunView("r", "main", ""), place / "run.json")
    settings = NotifySettings(webhook=url, on=on) if on else NotifySettings(webhook=url)
    made = Notifier(settings, [WebhookChannel(url)], place / "notified.json", board, "shop", pauses=(0.0, 0.0, 0.0))
    return made, board


async def test_what_needs_a_person_is_told_once_over_several_runs(harness: RunHarness) -> None:
    with serving() as webhook:
        tasks = {"a": {}, "b": {}, "design": PERSON, "later": {**PERSON, "depends_on": ["b"]}}
        harness.make(tasks, BLOCKS_A, notify={"webhook": webhook.url})
        await harness.work()
        assert sorted(webhook.ids) == ["blocked a resolve-a-1", "person design", "person later"]
        (blocked,) = (one for one in webhook.heard if one["node"] == "a")
        assert blocked["text"].startswith(f"{harness.top.name}: a is blocked: The key is missing.")
        assert (blocked["event"], blocked["kind"]) == ("blocked", "context")
        assert blocked["command"] == 'coordinator resolve a "…"'
        await harness.work()
        assert len(webhook.heard) == 3


async def test_command_gets_each_notification_as_json(harness: RunHarness) -> None:
    heard = harness.place / "heard"
    tell = ["sh", "-c", f'cat >> "{heard}"; env > "{heard}.env"']
    harness.make({"a": {}}, BLOCKS_A, notify={"command": tell, "env": ["SHOP_*"]})
    environment = {"SHOP_KEY": "1", "OTHER_KEY": "2"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        await harness.work()
    (line,) = heard.read_text().splitlines()
    assert json.loads(line)["id"] == "blocked a resolve-a-1"
    seen = heard.with_name("heard.env").read_text()
    assert "SHOP_KEY=1" in seen
    assert "OTHER_KEY" not in seen


async def test_webhook_that_refuses_is_said_once_without_its_address_and_the_run_is_not_held_up(
    harness: RunHarness,
) -> None:
    with serving(404) as webhook:
        harness.make({"a": {}, "b": {}, "design": PERSON}, BLOCKS_A, notify={"webhook": webhook.url})
        worked = await harness.work()
        assert worked.names == {"a": "Blocked", "b": "Merged"}
        said = [line for line in worked.lines if "Notifications" in line]
        expected = (
            "Notifications were not sent: notify.webhook: it answered 404. The next run tells what still holds then."
        )
        assert said == [expected]
        assert "s3cret" not in "\n".join(worked.lines)
        webhook.status = 200
        before = len(webhook.heard)
        await harness.work()
        assert sorted(webhook.ids[before:]) == ["blocked a resolve-a-1", "person design"]


async def test_a_person_who_aborts_a_node_is_not_told_so(harness: RunHarness) -> None:
    async def abort(opened: OpenRun) -> None:
        await harness.signals["begun"].wait()
        await opened.run.requests.abort("a")

    with serving() as webhook:
        harness.make({"a": {}}, "tell begun; await never", signals=["begun", "never"], notify={"webhook": webhook.url})
        worked = await harness.work(during=abort)
        assert worked.names == {"a": "Aborted"}
        assert webhook.heard == []


async def test_webhook_from_a_variable_that_is_not_set_is_said(
    harness: RunHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHOP_WEBHOOK", raising=False)
    harness.make({"a": {}}, "work", notify={"webhook_env": "SHOP_WEBHOOK"})
    worked = await harness.work()
    assert any("SHOP_WEBHOOK, which notify.webhook_env names, is not set" in line for line in worked.view.messages)
    with serving() as webhook:
        monkeypatch.setenv("SHOP_WEBHOOK", webhook.url)
        harness.commit("Plan", {"tasks/design.md": "---\nid: design\nname: Design\nassignee: human\n---\n"})
        await harness.work()
        assert webhook.ids == ["person design"]


async def test_webhook_that_fails_for_ever_is_tried_a_few_times_then_once_each(tmp_path: Path) -> None:
    with serving(500) as webhook:
        notifier, board = make_notifier(tmp_path, webhook.url)
        notifier.tell([LIMIT])
        await notifier.flush()
        assert webhook.ids == ["limit r"] * 4
        notifier.tell([LIMIT, Notification(NotifyEvent.ENDED, "ended r", "The run has ended")])
        await notifier.flush()
        assert webhook.ids[4:] == ["limit r", "ended r"]
        assert len(board.view.messages) == 1
        assert read_told(tmp_path / "notified.json") == {}


async def test_webhook_that_fails_for_a_while_gets_each_notification_once(tmp_path: Path) -> None:
    with serving() as webhook:
        webhook.answers = [503, 429]
        notifier, board = make_notifier(tmp_path, webhook.url)
        notifier.tell([LIMIT, LIMIT])
        await notifier.flush()
        assert webhook.ids == ["limit r"] * 3
        again, _ = make_notifier(tmp_path, webhook.url)
        again.tell([LIMIT])
        await again.flush()
        assert webhook.ids == ["limit r"] * 3
        assert board.view.messages == ()


async def test_webhook_that_does_not_answer_is_given_up_when_the_run_ends(tmp_path: Path) -> None:
    notifier, board = make_notifier(tmp_path, "http://127.0.0.1:1/s3cret")
    notifier.tell([LIMIT])
    await notifier.flush(0.0)
    (said,) = board.view.messages
    assert said.startswith("Notifications were not sent")
    assert "s3cret" not in said


async def test_only_what_is_chosen_is_told(tmp_path: Path) -> None:
    with serving() as webhook:
        notifier, _ = make_notifier(tmp_path, webhook.url, "ended")
        notifier.tell([LIMIT])
        await notifier.flush()
        assert webhook.heard == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"webhook": 3}', '{"webhook": [["limit r"]]}'])
async def test_record_with_faults_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "notified.json").write_text(content)
    with serving() as webhook:
        notifier, _ = make_notifier(tmp_path, webhook.url)
        notifier.tell([LIMIT])
        await notifier.flush()
        assert webhook.ids == ["limit r"]


async def test_limit_that_stops_the_run_is_told(harness: RunHarness) -> None:
    async def halt(opened: OpenRun) -> None:
        await reach(opened, "a: session")
        opened.run.stopping.halt("the provider is out of credit")

    with serving() as webhook:
        harness.make({"a": {}}, "await never", signals=["never"], notify={"webhook": webhook.url})
        await harness.work(during=halt)
        assert [one["text"] for one in webhook.heard] == [
            f"{harness.top.name}: The run is stopping: the provider is out of credit"
        ]
