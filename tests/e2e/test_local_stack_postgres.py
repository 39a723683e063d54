"""`coordinator up --postgres`: the server's state in Postgres, and what is wrong with an address."""

import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from e2e.postgres_server import PASSWORD, Postgres, require_programs, running_postgres
from e2e.test_local_stack import up
from running_processes import list_running

from flows.local_stack.postgres import check_database, parse_database
from tasks_lib.errors import InputError

pytestmark = pytest.mark.xdist_group("up")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres(require_programs()) as server:
        yield server


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("mysql://ada:swordfish@host/prefect", '"mysql:"'),
        ("ada:swordfish@host", "ada:"),
        ("prefect", "no scheme"),
        ("postgresql://ada:swordfish@host", "no database"),
        ("postgresql:///prefect", "no host"),
        ("postgresql://ada:swordfish@host:port/prefect", "cannot be read"),
        ("postgresql://ada:swordfish@host:99999/prefect", "cannot be read"),
    ],
)
def test_address_that_is_none_is_explained_without_its_password(text: str, fault: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_database(text)
    assert fault in str(raised.value)
    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_usual_schemes_are_accepted_and_the_password_is_not_shown(scheme: str) -> None:
    database = parse_database(f"{scheme}://ada:{PASSWORD}@host:5433/prefect")
    assert database.url == f"postgresql+asyncpg://ada:{PASSWORD}@host:5433/prefect"
    assert PASSWORD not in f"{database} {database!r} {database.label}"


def explain(url: str) -> str:
    with pytest.raises(InputError) as raised:
        check_database(parse_database(url))
    assert PASSWORD not in str(raised.value)
    return str(raised.value)


def test_database_that_does_not_answer_is_named_with_the_reason() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        said = explain(f"postgresql://ada:{PASSWORD}@127.0.0.1:{taken.getsockname()[1]}/prefect")
    assert "cannot be reached" in said


def test_wrong_login_database_and_option_are_told_apart(postgres: Postgres) -> None:
    check_database(parse_database(postgres.url()))
    assert "rejected the login" in explain(postgres.url(password="wrong"))
    assert "does not exist" in explain(postgres.url(database="missing"))
    assert "option" in explain(f"{postgres.url()}?sslmode=require")


def test_state_is_in_postgres_and_the_password_is_with_the_server_only(postgres: Postgres, tmp_path: Path) -> None:
    with up(tmp_path, "--postgres", postgres.url()) as stack:
        assert stack.coordinator.ask("work_pools/filter", {})[0]["name"] == "coordinator"
        assert PASSWORD not in "".join(stack.find_worker().environ().values())
        code, output = stack.coordinator.run("up", "--postgres", f"{postgres.url()}2", extra={"PREFECT_API_URL": ""})
        assert code == 2, output
        children = psutil.Process(stack.process.pid).children(recursive=True)
        ended = stack.end()
    assert stack.process.returncode == 0, ended
    assert PASSWORD not in stack.said + ended + output
    assert not (tmp_path / "prefect" / "prefect.db").exists()
    assert list_running(children) == []
    logs = (tmp_path / "prefect" / name for name in ("server.log", "worker.log"))
    assert all(PASSWORD not in log.read_text(encoding="utf-8") for log in logs)
