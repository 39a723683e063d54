"""Checks the documentation against the code: keys and defaults, commands and options, links, size limits."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import typer.main
import yaml

from flows.cli.app import app
from flows.cli.commands.option_values import UP_PORT
from tasks_lib.model import KNOWN_LEVELS
from tasks_lib.process.allowed_variables import TURN_NAMES
from tasks_lib.prompts.templates import PLACEHOLDERS
from tasks_lib.reporting.run_report import ExitCode
from tasks_lib.settings.schema import DEFAULT_ROLE, KEPT_CONFIG, Settings, read_settings, settings_schema

TOP = Path(__file__).resolve().parent.parent
DOCS = TOP / "docs"
PAGES = sorted([TOP / "README.md", TOP / "ARCHITECTURE.md", *DOCS.glob("*.md"), *TOP.glob("examples/*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
NAMED_COMMAND = re.compile(r"(?:^\s*|`|&& |[A-Z_]+=\S+ )coordinator ([a-z][a-z-]*)([^`\n#]*)", re.MULTILINE)
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]*) \|", re.MULTILINE)


def name_page(page: Path) -> str:
    return page.relative_to(TOP).as_posix()


def read(page: str) -> str:
    return (TOP / page).read_text(encoding="utf-8")


def cut(text: str, heading: str) -> str:
    """The part of `text` from `heading` to the next heading of level 2."""
    return text.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]


def list_keys(schema: Mapping[str, Any], properties: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Map every key that can be set to its default as the documentation writes it."""
    for key, value in properties.items():
        if reference := value.get("$ref"):
            section = schema["$defs"][reference.rpartition("/")[2]]
            yield from list_keys(schema, section["properties"], f"{before}{key}.")
        else:
            yield before + key, f"`{json.dumps(value.get('default', {}))}`"


def list_anchors(page: Path) -> list[str]:
    """The anchors of the headings of `page`, as GitHub generates them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


def get_commands() -> Mapping[str, Any]:
    return vars(typer.main.get_command(app))["commands"]


def list_options(command: Any) -> set[str]:
    """List the options of a command, and of the commands below it."""
    own = {one for parameter in command.params for one in (*parameter.opts, *parameter.secondary_opts)}
    return own.union(*map(list_options, getattr(command, "commands", {}).values()))


def list_named_commands(text: str) -> list[tuple[str, list[str]]]:
    """Map each command that a page mentions to the options it shows for it."""
    return [(name, re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest)) for name, rest in NAMED_COMMAND.findall(text)]


def test_every_key_is_documented_with_its_default_and_no_other_is() -> None:
    schema = settings_schema()
    documented = ROW.findall(cut(read("docs/configuration.md"), "## Every key"))
    assert len(documented) == len(dict(documented))
    assert dict(documented) == dict(list_keys(schema, schema["properties"]))


def test_the_roles_are_those_that_levels_have() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", cut(read("docs/configuration.md"), "## Roles"), re.MULTILINE)
    documented = {level: role for cell, role in rows for level in re.findall(r"`([a-z]+)`", cell)}
    settings = Settings()
    assert documented == {level: settings.role_for(level) for level in KNOWN_LEVELS if level != "implementation"}
    assert rows[-1][1] == DEFAULT_ROLE == settings.role_for(None)


def test_every_variable_of_a_turn_is_documented_and_no_other_is() -> None:
    documented = ROW.findall(cut(read("docs/agents.md"), "## What an agent is given"))
    assert {name for name, _ in documented} == set(TURN_NAMES)


def test_every_placeholder_of_a_prompt_is_documented_and_no_other_is() -> None:
    parts = re.split(r"^`([a-z]+)`, ", cut(read("docs/prompts.md"), "## Placeholders"), flags=re.MULTILINE)
    documented = {name: dict(ROW.findall(part)) for name, part in zip(parts[1::2], parts[2::2], strict=True)}
    assert documented == {
        name: {f"${one}": what for one, what in known.items()} for name, known in PLACEHOLDERS.items()
    }


def test_the_keys_that_opencodes_configuration_keeps_are_documented() -> None:
    section = cut(read("docs/configuration.md"), "## opencode")
    said = re.search(r"rejects them in `config`: ([^.]*)\.", section)
    assert said
    assert set(re.findall(r"`([a-z_]+)`", said[1])) == set(KEPT_CONFIG)


def test_the_exit_codes_are_those_of_a_run() -> None:
    documented = re.findall(r"^\| (\d+) \|", read("README.md"), re.MULTILINE)
    assert [int(code) for code in documented] == sorted(ExitCode)


def test_the_port_of_the_ui_is_the_documented_one() -> None:
    assert f"http://127.0.0.1:{UP_PORT}," in read("README.md")
    assert f"port other than {UP_PORT}" in read("docs/running.md")


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_relative_links_lead_to_files(page: Path) -> None:
    links = [link.partition("#")[0] for link in LINK.findall(page.read_text(encoding="utf-8"))]
    missing = [link for link in links if link and "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_links_to_headings_lead_to_headings(page: Path) -> None:
    links = [link.partition("#") for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    targets = [(page.parent / path if path else page, anchor) for path, _, anchor in links if anchor]
    assert [f"{target.name}#{anchor}" for target, anchor in targets if anchor not in list_anchors(target)] == []


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_named_commands_and_their_options_exist(page: Path) -> None:
    commands = get_commands()
    for name, options in list_named_commands(page.read_text(encoding="utf-8")):
        assert name in commands, f"`coordinator {name}` is not a command"
        assert set(options) <= list_options(commands[name]) | {"--help", "-h"}, f"of `coordinator {name}`"


def test_every_command_is_documented() -> None:
    documented = re.findall(r"^\| `coordinator ([a-z]+)` \|", read("docs/running.md"), re.MULTILINE)
    assert sorted(documented) == sorted(get_commands())


def test_every_page_is_linked_from_the_readme() -> None:
    links = set(LINK.findall(read("README.md")))
    assert {f"docs/{page.name}" for page in DOCS.glob("*.md")} <= links


def test_every_test_that_a_promise_names_is_there() -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", read("docs/reliability.md"))
    missing = [f"{file}::{name}" for file, name in named if not _has_test(TOP / "tests" / file, name)]
    assert missing == []
    assert len(named) > 40


def _has_test(path: Path, name: str) -> bool:
    return path.exists() and re.search(rf"^(async )?def {name}\(", path.read_text("utf-8"), re.MULTILINE) is not None


def test_the_table_of_agents_names_tests_that_exist() -> None:
    section = cut(read("docs/agents.md"), "## Claude Code and Codex")
    modules = ("tests/runs/test_run_presets.py", "tests/e2e/test_preset_runs.py")
    tests = "".join((TOP / name).read_text(encoding="utf-8") for name in modules)
    named = set(re.findall(r"`(test_\w+)`", section))
    assert {name for name in named if f"def {name}(" not in tests} == set()
    assert len(named) > 5
    files = set(re.findall(r"`(tests/[\w/]+\.py)`", section))
    assert {name for name in files if not (TOP / name).is_file()} == set()


def test_every_loop_that_waits_stands_in_the_table_of_bounds() -> None:
    """A new loop that waits for something outside must document what ends it; `find_waiting_loops` defines which count."""
    section = cut(read("docs/reliability.md"), "## The loops and their bounds")
    named = {f"{file}::{name}" for file, name in re.findall(r"`([\w/]+\.py)::((?!test_)\w+)`", section)}
    assert named == set(find_waiting_loops())


def find_waiting_loops() -> Iterator[str]:
    """Yield each function with a loop that may wait: one without a condition, or one that awaits, sleeps or retries.

    Names look like `landing/merge_queue.py::land` or `flows/request_inbox.py::work`.
    """
    for path in [*sorted((TOP / "tasks_lib").rglob("*.py")), *sorted((TOP / "flows").rglob("*.py"))]:
        name = path.relative_to(TOP).as_posix().removeprefix("tasks_lib/")
        if not name.startswith("flows/demo/"):
            for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and any(map(waits, ast.walk(function))):
                    yield f"{name}::{function.name}"


def waits(node: ast.AST) -> bool:
    if isinstance(node, ast.For):
        # `for _ in range(TRIES)` is a retry.
        return ast.unparse(node.target) == "_" and re.search(r"[A-Z]{3}", ast.unparse(node.iter)) is not None
    if not isinstance(node, ast.While):
        return False
    calls = {ast.unparse(one.func).rpartition(".")[2] for one in ast.walk(node) if isinstance(one, ast.Call)}
    has_await = any(isinstance(one, ast.Await) for one in ast.walk(node))
    return isinstance(node.test, ast.Constant) or has_await or not calls.isdisjoint({"sleep", "wait", "wait_for"})


def test_configurations_that_are_shown_are_read_without_a_fault() -> None:
    shown = 0
    for page in PAGES:
        for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", page.read_text(encoding="utf-8"), re.MULTILINE):
            text = "".join(line[4:] or "\n" for line in block.splitlines(keepends=True))
            first = re.match(r"\s*([a-z_]+):", text)
            if first and first[1] in Settings.model_fields:
                read_settings(text, page.name, {})
                shown += 1
    assert shown >= 4


def test_the_jobs_for_ci_systems_name_a_data_directory_and_run_coordinator() -> None:
    github, gitlab = (
        yaml.safe_load(
            dedent(re.findall(r"(?:^    .*\n|^\n(?=    ))+", cut(read("docs/ci.md"), name), re.MULTILINE)[0])
        )
        for name in ("## GitHub Actions", "## GitLab")
    )
    (job,) = github["jobs"].values()
    assert job["env"].keys() == {"COORDINATOR_DATA_DIR"}
    assert [step["run"] for step in job["steps"] if "run" in step] == ["coordinator run"]
    (job,) = gitlab.values()
    assert job["variables"].keys() > {"COORDINATOR_DATA_DIR", "GIT_CONFIG_COUNT"}
    assert job["script"][-1] == "coordinator run"


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) < 150
