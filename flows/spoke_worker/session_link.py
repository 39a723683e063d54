"""The session's end of the connection to its run, and the life of its flow run."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger
from prefect.states import Cancelled, Completed, Failed

from flows.prefect_reporting import FAULTS, STOPS
from flows.spokes.session_labels import MESSAGE_PREFIX, PROGRESS, PULSE, REPORT
from tasks_lib.session.remote_messages import (
    HubMessage,
    Progress,
    StopOrder,
    TurnReport,
    read_hub_message,
    read_order,
    write_message,
)
from tasks_lib.spokes.machine import SpokeMachine

POLL_SECONDS = 0.5
POLLS_PER_STATE = 4
PAUSE_SECONDS = 2.0
CALL_SECONDS = 20.0
MAX_MESSAGES = 20


class PrefectHubLink:
    """Receives the inputs of one flow run, and publishes its labels."""

    def __init__(self, client: PrefectClient, run: UUID) -> None:
        self._client = client
        self._run = run
        self._seen: set[str] = set()
        self._ready: list[HubMessage] = []
        self._polls = 0
        self._labels: dict[str, bool | int | float | str] = {}
        self._publishing = asyncio.Lock()
        self.is_cancelled: bool = False
        self._logger = flow_run_logger(flow_run_id=run)

    async def receive(self) -> HubMessage:
        """Return the next message; a cancelled flow run reads as the order to stop."""
        while not self._ready:
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    await self._poll()
            except FAULTS as error:
                self._logger.debug("messages cannot be read at the moment: %s", error)
            if not self._ready:
                await asyncio.sleep(POLL_SECONDS)
        return self._ready.pop(0)

    async def _poll(self) -> None:
        found = await self._client.filter_flow_run_input(self._run, MESSAGE_PREFIX, MAX_MESSAGES, self._seen)
        for one in sorted(found, key=lambda one: str(one.created)):
            self._seen.add(one.key)
            try:
                self._ready.append(read_hub_message(one.value))
            except ValueError as error:
                self._logger.warning("Ignored an input that is not a message of a run: %s", error)
        self._polls += 1
        if not found and self._polls % POLLS_PER_STATE == 0:
            state = (await self._client.read_flow_run(self._run)).state
            if state and state.type in STOPS and not self.is_cancelled:
                self.is_cancelled = True
                self._ready.append(StopOrder(is_last=True))

    async def publish(self, *, progress: Progress | None = None, report: TurnReport | None = None) -> None:
        """Publish in labels; a report is repeated until the server has it, progress is not.

        The server reads all labels, changes some and writes all, so of two changes at once one is lost. Therefore only
        one is made at a time, and each has the last report again, which somebody else's change may have undone.
        """
        if progress:
            self._labels[PROGRESS] = write_message(progress)
        if report:
            self._labels[REPORT] = write_message(report)
        while True:
            try:
                async with asyncio.timeout(CALL_SECONDS), self._publishing:
                    self._labels[PULSE] = int(time.time())
                    await self._client.update_flow_run_labels(self._run, self._labels)
            except FAULTS as error:
                self._logger.debug("the server does not answer: %s", error)
                if not report:
                    return
            else:
                return
            await asyncio.sleep(PAUSE_SECONDS)


async def host_session(
    client: PrefectClient, machine: SpokeMachine, run: FlowRun | UUID, parameters: Mapping[str, Any]
) -> State[Any]:
    """Run the session of a flow run to its end; return the state that the flow run ends in."""
    run_id = run if isinstance(run, UUID) else run.id
    logger = flow_run_logger(flow_run_id=run_id)
    link = PrefectHubLink(client, run_id)
    try:
        order = read_order(json.dumps(parameters.get("order", {})))
    except ValueError as error:
        return Failed(message=f"This is not the order of a run: {error}")
    logger.info(f"A session for {order.node} of {order.repository}, on branch {order.branch}, as {order.role}.")
    try:
        await machine.host(order, link, logger.info)
    except asyncio.CancelledError:
        return Cancelled(message=f"The worker on {machine.name} was stopped; the work was pushed first.")
    except Exception as error:  # Its run hears of it by the state.
        logger.exception("The session ended unexpectedly.")
        return Failed(message=f"The session ended unexpectedly: {error!r}")
    return Cancelled() if link.is_cancelled else Completed(message="Its run ended this session.")
