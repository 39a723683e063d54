"""What a session on another machine publishes in the labels of its flow run, on a real server."""

import asyncio

import pytest
from e2e.conftest import Coordinator
from prefect import flow
from prefect.client.orchestration import PrefectClient

from flows.spoke_worker.session_link import PrefectHubLink
from flows.spokes.session_labels import PROGRESS, REPORT
from tasks_lib.session.remote_messages import Progress, TurnReport, read_progress, read_report

pytestmark = pytest.mark.xdist_group("prefect and spokes")


@flow
def nothing() -> None:
    """A flow whose runs are only recorded."""


def test_a_report_that_another_change_undid_is_published_again_with_the_progress(coordinator: Coordinator) -> None:
    report = TurnReport(1, 1, status=0, answer="Done.")

    async def publish() -> None:
        async with PrefectClient(coordinator.api) as client:
            run = (await client.create_flow_run(nothing)).id
            link = PrefectHubLink(client, run)
            progress = [Progress("north", "session", activity=f"step {number}") for number in range(20)]
            await asyncio.gather(link.publish(report=report), *(link.publish(progress=one) for one in progress))
            labels = (await client.read_flow_run(run)).labels
            assert read_report(str(labels[REPORT])) == report
            await client.update_flow_run_labels(run, {REPORT: "", "other": "change"})
            await link.publish(progress=progress[0])
            labels = (await client.read_flow_run(run)).labels
            assert read_report(str(labels[REPORT])) == report
            assert read_progress(str(labels[PROGRESS])) == progress[0]

    asyncio.run(publish())
