"""The environment of Prefect in this process, and that of the user's programs in the meantime."""

import os
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cli_fixtures import UserRepository

from flows.data_directory import data_dir, own_directory
from flows.prefect_api import ask
from flows.prefect_isolation import external_server_settings, isolated, remove_from_import_path
from flows.prefect_server import serve
from tasks_lib.errors import InputError
from tasks_lib.process.user_environment import user_environment

OURS = {"PREFECT_API_URL": "http://127.0.0.1:1/api", "PREFECT_HOME": "/ours"}
THEIRS = "https://prefect.example/api"


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in {
        "HTTPS_PROXY": "http://proxy.example",
        "all_proxy": "socks5h://proxy.example",
        "NO_PROXY": "example.org",
        "SSL_CERT_FILE": "/nowhere",
        "PREFECT_PROFILE": "theirs",
        "prefect_logging_level": "DEBUG",
        "PREFECT_API_KEY": "secret",
        "PREFECT_CLIENT_MAX_RETRIES": "1",
        "OTEL_SERVICE_NAME": "x",
        "WEB_CONCURRENCY": "2",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("hostile")
def test_prefect_with_our_server_sees_our_settings_alone_and_the_person_loses_nothing(repo: UserRepository) -> None:
    before, here = dict(os.environ), Path.cwd()
    with isolated(OURS):
        assert {name: value for name, value in os.environ.items() if name.upper().startswith("PREFECT_")} == OURS
        gone = {"HTTPS_PROXY", "all_proxy", "NO_PROXY", "SSL_CERT_FILE", "OTEL_SERVICE_NAME", "WEB_CONCURRENCY"}
        assert not gone & os.environ.keys()
        assert Path.cwd() == own_directory()
        assert os.environ["DO_NOT_TRACK"] == "1"
        given = user_environment()
        assert {name: given[name] for name in gone} == {name: before[name] for name in gone}
        # git reaches remotes with the user's own settings.
        seen = repo.git.text("-c", "alias.show-it=!echo $HTTPS_PROXY $SSL_CERT_FILE", "show-it")
        assert seen == "http://proxy.example /nowhere"
    assert (dict(os.environ), Path.cwd()) == (before, here)


@pytest.mark.usefixtures("hostile")
def test_a_server_of_the_persons_is_reached_as_they_say_but_without_their_profile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", THEIRS)
    with isolated(external_server_settings()):
        told = {name: value for name, value in os.environ.items() if name.upper().startswith("PREFECT_")}
        assert told == {
            "PREFECT_API_URL": THEIRS,
            "PREFECT_API_KEY": "secret",
            "PREFECT_CLIENT_MAX_RETRIES": "1",
            "PREFECT_HOME": str(data_dir() / "prefect"),
        }
        assert os.environ["DO_NOT_TRACK"] == "1"
        assert os.environ["HTTPS_PROXY"] == "http://proxy.example"
        assert os.environ["SSL_CERT_FILE"] == "/nowhere"
        assert "127.0.0.1" in os.environ["NO_PROXY"].split(",")


def test_telemetry_is_as_the_user_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    with isolated({}):
        assert os.environ["DO_NOT_TRACK"] == "0"


def test_a_relative_data_directory_is_the_same_one_from_everywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COORDINATOR_DATA_DIR", "mine")
    with isolated(OURS):
        assert data_dir() == (tmp_path / "mine").resolve()
    assert os.environ["COORDINATOR_DATA_DIR"] == "mine"


def test_a_home_in_the_data_directory_means_the_same_in_prefects_own_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COORDINATOR_DATA_DIR", "~/data")
    monkeypatch.setenv("XDG_CACHE_HOME", "~/cache")
    with isolated(OURS):
        assert data_dir() == (tmp_path / "data").resolve()
        assert Path(os.environ["XDG_CACHE_HOME"]).is_absolute()
    monkeypatch.setenv("COORDINATOR_DATA_DIR", "~nobody-of-this-name/data")
    with pytest.raises(InputError, match="home directory that is not known"), isolated(OURS):
        pass


def test_login_is_sent_to_the_server_that_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ada:secret")
    monkeypatch.setenv("PREFECT_CLIENT_CUSTOM_HEADERS", '{"X-Door": "side"}')
    monkeypatch.setenv("PREFECT_API_URL", "http://localhost:4200/api")
    with ask("http://127.0.0.1:4200/api", 1) as client:
        assert (client.headers["Authorization"][:6], client.headers["X-Door"]) == ("Basic ", "side")
    # The server address that a run records is in the repository, where an agent can change it.
    with ask("http://127.0.0.1:4201/api", 1) as client:
        assert not {"Authorization", "X-Door"} & set(client.headers)


def test_certificates_are_taken_as_prefect_takes_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PREFECT_API_URL", THEIRS)
    monkeypatch.setenv("PREFECT_API_SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(InputError, match="PREFECT_API_SSL_CERT_FILE is"):
        ask(THEIRS, 1)
    monkeypatch.setenv("PREFECT_API_SSL_CERT_FILE", ssl.get_default_verify_paths().cafile or "")
    ask(THEIRS, 1).close()
    monkeypatch.setenv("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "true")
    ask(THEIRS, 1).close()


def test_nothing_of_the_repository_that_a_worker_works_is_on_its_import_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = list(sys.path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "src"), "", "lib", *kept])
    remove_from_import_path(tmp_path)
    assert not [entry for entry in sys.path if not entry.startswith("/") or entry.startswith(str(tmp_path))]
    assert {entry for entry in kept if "site-packages" in entry} <= set(sys.path)


def test_a_server_that_wants_a_login_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/health" else 401)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Closed) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api")
        with pytest.raises(InputError, match=r"rejected the login \(401\): set PREFECT_API_AUTH_STRING"), serve():
            pass
        server.shutdown()
