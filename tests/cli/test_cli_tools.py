"""What docs/mcp.md says about the tools, and what a model reads about them."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cli_fixtures import Call, UserRepository

from flows.cli.agent_tools.arguments import SpawnArguments
from flows.cli.agent_tools.server import OPERATIONS, describe_tool
from tasks_lib.settings.schema import read_settings
from tasks_lib.taskfile.parsing import parse_task

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "mcp.md").read_text(encoding="utf-8")
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}
BLOCKS = re.findall(r"(?:^ {4}.*\n)+", PAGE, re.MULTILINE)


def test_every_tool_and_argument_is_documented_and_no_other_is() -> None:
    rows = re.findall(r"^\| `(coord\.[a-z]+)` \|([^|]*)\|", PAGE, re.MULTILINE)
    documented = {name: set(re.findall(r"`(\w+)`", fields)) for name, fields in rows}
    assert documented == {name: set(one.arguments.model_fields) for name, one in OPERATIONS.items()}


def test_example_of_a_spawn_is_a_valid_call_with_a_valid_task_file() -> None:
    (example,) = [json.loads(block) for block in BLOCKS if block.strip().startswith('{"task"')]
    task, faults = parse_task(SpawnArguments.model_validate(example).task.encode(), "tasks/refunds.md")
    assert faults == ()
    assert task
    assert (task.id, task.name, task.depends_on) == ("refunds", "Take refunds", ("pay",))
    assert "`spawned(refunds): Take refunds`" in PAGE


def test_example_of_a_clients_file_starts_the_command() -> None:
    (example,) = [json.loads(block) for block in BLOCKS if '"mcpServers"' in block]
    server = example["mcpServers"]["coordinator"]
    assert (server["command"], server["args"][0]) == ("coordinator", "mcp")


def test_example_of_the_configuration_is_read_and_the_page_names_the_defaults() -> None:
    (example,) = [block for block in BLOCKS if block.strip().startswith("spawn:")]
    settings = read_settings(yaml.safe_dump(yaml.safe_load(example)), "coordinator.yaml", {})
    assert settings.spawn.enabled
    defaults = read_settings("", "", {}).spawn
    assert not defaults.enabled
    assert f"`spawn.max_depth` ({defaults.max_depth})" in PAGE
    assert f"`spawn.max_tasks` ({defaults.max_tasks})" in PAGE


@pytest.mark.parametrize("name", OPERATIONS)
def test_model_reads_what_each_argument_means(name: str) -> None:
    tool = describe_tool(name, OPERATIONS[name])
    fields = tool.input_schema.get("properties", {})
    assert tool.description
    assert [field for field, about in fields.items() if not about.get("description")] == []


def test_place_without_a_repository_is_refused_before_anything_is_served(call: Call, tmp_path: Path) -> None:
    done = call("mcp", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert str(tmp_path) in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_server_whose_client_is_still_there_ends_on_a_signal(repo: UserRepository, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "flows.cli", "mcp", str(repo.top)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin
        assert server.stdout
        server.stdin.write(json.dumps(HELLO) + "\n")
        server.stdin.flush()
        answer = json.loads(server.stdout.readline())
        server.send_signal(number)
        assert server.wait(60) == 128 + number
    assert answer["result"]["serverInfo"]["name"] == "coordinator"
