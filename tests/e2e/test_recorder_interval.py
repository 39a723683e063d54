"""How soon our server stores what became of task runs, since the end of each run waits for that."""

import asyncio
import logging
from collections.abc import Generator

import pytest

from flows.server_process import RECORD_SECONDS, record_often


@pytest.fixture
def messages() -> Generator[list[str]]:
    # All services of the server are imported with it: a second that each process with tests would need at its start.
    from prefect.server.services import task_run_recorder

    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())
    task_run_recorder.logger.addHandler(handler)
    yield found
    task_run_recorder.logger.removeHandler(handler)


def test_recorder_takes_part_of_a_second(monkeypatch: pytest.MonkeyPatch, messages: list[str]) -> None:
    """Prefect rounds its setting down to whole seconds; with 0, the recorder would never rest."""
    from prefect.server.services import task_run_recorder

    monkeypatch.setattr(task_run_recorder, "consumer", task_run_recorder.consumer)
    monkeypatch.setattr(task_run_recorder.logger, "level", logging.INFO)
    record_often()

    async def serve() -> None:
        async with task_run_recorder.consumer(write_batch_size=100, flush_every=1):
            pass

    asyncio.run(serve())
    assert f"batch size 100 and flush every {RECORD_SECONDS} seconds" in messages[0]
