"""Which requests go through a proxy, and which never do."""

import socket
from threading import Thread

import httpx
import pytest

from tasks_lib.errors import SystemFailure
from tasks_lib.process.http_clients import bypass_loopback, is_loopback, make_async_client, make_client

NAMES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "NO_PROXY", "no_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


class OneAnswer:
    """A port that answers its first request and keeps it."""

    def __init__(self) -> None:
        self.heard: bytes = b""
        self._socket: socket.socket = socket.create_server(("127.0.0.1", 0))
        self.url: str = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread: Thread = Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        connection, _ = self._socket.accept()
        with connection, self._socket:
            self.heard = connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "socks5h://h", "nonsense"])
async def test_loopback_is_asked_directly_whatever_the_proxy(
    monkeypatch: pytest.MonkeyPatch, name: str, proxy: str
) -> None:
    monkeypatch.setenv(name, proxy)
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    first, second = OneAnswer(), OneAnswer()
    with make_client(f"{first.url}/api", 30) as client:
        assert client.get("/health").text == "ok"
    assert first.heard.startswith(b"GET /api/health ")
    async with make_async_client(second.url, 30, auth=("a", "b")) as client:
        assert (await client.get("/global")).text == "ok"


def test_another_machine_is_asked_through_the_persons_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = OneAnswer()
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    with make_client("http://prefect.example/api", 30) as client:
        assert client.get("/health").text == "ok"
    assert proxy.heard.startswith(b"GET http://prefect.example/api/health ")


def test_exceptions_of_the_person_count(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = OneAnswer()
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "prefect.invalid")
    with make_client("http://prefect.invalid/api", 30) as client, pytest.raises(httpx.ConnectError):
        client.get("/health")
    assert proxy.heard == b""


@pytest.mark.parametrize(("name", "value"), [("ALL_PROXY", "socks5h://h:1"), ("SSL_CERT_FILE", "/nowhere")])
def test_a_proxy_or_certificates_that_cannot_be_used_are_a_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemFailure, match=r"https://prefect\.example cannot be reached"):
        make_client("https://prefect.example", 30)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:4200/api", True),
        ("http://127.1.2.3", True),
        ("http://localhost:4200", True),
        ("https://LOCALHOST.", True),
        ("http://api.localhost", True),
        ("http://[::1]:4200/api", True),
        ("http://[::ffff:127.0.0.1]:1", True),
        ("http://0.0.0.0:4200", True),
        ("http://10.0.0.1", False),
        ("https://127.0.0.1.example.org", False),
        ("https://localhost.example.org", False),
        ("https://api.prefect.cloud/api", False),
        ("http://[::1", False),
        ("", False),
    ],
)
def test_what_is_on_this_machine(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"A": "1"}, None),
        ({"NO_PROXY": "x"}, None),
        ({"http_proxy": "p"}, "127.0.0.1,localhost,::1"),
        ({"ALL_PROXY": "p", "NO_PROXY": "a, b"}, "a,b,127.0.0.1,localhost,::1"),
        ({"ALL_PROXY": "p", "NO_PROXY": "a", "no_proxy": "b"}, "b,127.0.0.1,localhost,::1"),
        ({"ALL_PROXY": "p", "no_proxy": "localhost"}, "localhost,127.0.0.1,::1"),
        ({"ALL_PROXY": "p", "no_proxy": "*"}, "*"),
    ],
)
def test_this_machine_is_an_exception_to_every_proxy(given: dict[str, str], expected: str | None) -> None:
    made = bypass_loopback(given)
    assert made == (given if expected is None else {**given, "no_proxy": expected, "NO_PROXY": expected})
