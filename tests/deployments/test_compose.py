"""`deployments/compose.yaml` and its Dockerfile, as far as they can be checked without containers."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from test_docs import get_commands, list_named_commands, list_options

TOP = Path(__file__).resolve().parents[2]
COMPOSE = TOP / "deployments" / "compose.yaml"
DOCKERFILE = TOP / "deployments" / "Dockerfile"
VERSION = re.compile(r":\d+\.\d+|@sha256:[0-9a-f]{64}$")


def read_services() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]


def list_lines(service: dict[str, Any]) -> list[str]:
    """The command of a service as lines of a shell."""
    command = cast("list[str]", service.get("command", []))
    return command[2].splitlines() if command[:2] == ["sh", "-c"] else [shlex.join(command)]


def test_what_services_start_are_commands_of_coordinator_with_their_options() -> None:
    lines = [line.removeprefix("exec ") for service in read_services().values() for line in list_lines(service)]
    named = list_named_commands("\n".join(lines))
    assert [name for name, _ in named] == ["up", "spoke", "spoke", "spoke", "spoke"]
    for name, options in named:
        assert set(options) <= list_options(get_commands()[name])
    assert [line for line in lines if "coordinator spoke start" in line] == [
        f"coordinator spoke start --name {name}" for name in ("north", "south")
    ]


def test_services_reach_each_other_by_their_names() -> None:
    services = read_services()
    text = COMPOSE.read_text(encoding="utf-8")
    hosts = set(re.findall(r"(?:git|http)://(?!127)([a-z]+)[:/]", text)) | set(re.findall(r"@([a-z]+)/", text))
    assert hosts == {"remote", "prefect", "postgres"}
    assert hosts <= set(services)
    assert {one for service in services.values() for one in service.get("depends_on", {})} <= set(services)
    declared = set(yaml.safe_load(text)["volumes"])
    assert {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])} == declared


def test_only_this_machine_reaches_the_server_and_it_wants_a_login() -> None:
    services = read_services()
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
        "prefect": ["127.0.0.1:4200:4200"]
    }
    login = services["prefect"]["environment"]["PREFECT_SERVER_API_AUTH_STRING"]
    for name in ("hub", "north", "south"):
        assert services[name]["environment"]["PREFECT_API_AUTH_STRING"] == login


def test_images_have_versions_and_coordinator_is_not_root() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    images = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    images += [service["image"] for service in read_services().values() if service["image"] != "coordinator:local"]
    assert len(images) == 3
    assert [image for image in images if not VERSION.search(image)] == []
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == ["coordinator"]
    assert "--require-hashes -r requirements/run.txt" in text


def test_what_the_dockerfile_copies_is_in_its_context_and_in_git() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    copied = {word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for word in line.split()}
    ignore = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied == {line[1:] for line in ignore if line.startswith("!")}
    for name in copied:
        tracked = subprocess.run(["git", "ls-files", "--", name], cwd=TOP, capture_output=True, check=True)
        assert tracked.stdout, name
    links = [link for name in copied for link in (TOP / name).rglob("*") if link.is_symlink()]
    assert links
    for link in links:
        assert link.resolve().relative_to(TOP).as_posix() in copied, f"{link} leads to what is not copied"


@pytest.mark.parametrize("name", ["hub", "north", "south"])
def test_a_service_has_time_to_drain(name: str) -> None:
    from flows.local_stack.worker_process import DRAIN_SECONDS

    assert int(read_services()[name]["stop_grace_period"].removesuffix("s")) > DRAIN_SECONDS
