"""A real opencode that may work outside of its worktree says where it did."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from session_fixtures import SessionFixture, bash, open_lab

pytestmark = [pytest.mark.xdist_group("opencode"), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[SessionFixture]:
    async with open_lab(tmp_path_factory.mktemp("lab"), outside="allow") as opened:
        yield opened


async def test_places_outside_where_tools_wrote_or_ran_are_named(lab: SessionFixture, tmp_path: Path) -> None:
    one, away = lab.open(), tmp_path / "away.txt"
    end = await one.do(
        [
            {"tool": "write", "args": {"filePath": str(one.spec.cwd / "in.txt"), "content": "x"}},
            {"tool": "write", "args": {"filePath": str(away), "content": "x"}},
            {"tool": "read", "args": {"filePath": str(tmp_path)}},
            bash("true", workdir=str(tmp_path)),
            bash("true", workdir=str(one.spec.cwd)),
            {"say": "done"},
        ]
    )
    assert (end.status, away.read_text()) == (0, "x")
    assert set(end.outside) == {str(away), str(tmp_path)}
