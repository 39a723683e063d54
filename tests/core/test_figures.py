"""What `python -m bench` says of its targets: each figure is judged, shown beside the last release, and kept on purpose."""

from pathlib import Path

import pytest

import bench.__main__ as program
from bench import figures
from bench.figures import Figure, describe_figures, judge, judge_least, read_released, save


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Figure]:
    found: list[Figure] = []
    for module in (figures, program):
        monkeypatch.setattr(module, "MEASURED", found)
    monkeypatch.setattr(program, "RELEASED", tmp_path / "figures.json")
    return found


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    return program.main()


def miss() -> str:
    return f"Slow: {judge('slow, s', 2.5, 2)}"


def meet() -> str:
    return f"Found: {judge_least('found, %', 95, 95)}"


def fail() -> str:
    raise RuntimeError("no machine")


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "BENCHMARKS", {"miss": miss, "meet": meet, "fail": fail})
    monkeypatch.setattr(program, "end_on_term", lambda: None)


def test_bounds_are_part_of_the_target() -> None:
    assert Figure("one", 2.0, 2.0).is_met
    assert not Figure("one", 2.01, 2.0).is_met
    assert Figure("one", 2.0, 2.0, is_least=True).is_met
    assert not Figure("one", 1.99, 2.0, is_least=True).is_met


def test_table_has_target_figure_verdict_and_last_release() -> None:
    table = describe_figures([Figure("reading, ms", 511.4, 250), Figure("found, %", 99.9, 95, is_least=True)],
                             {"reading, ms": 233.0})  # fmt: skip
    assert [line.split() for line in table.splitlines()] == [
        ["figure", "target", "now", "last", "release"],
        ["reading,", "ms", "at", "most", "250", "511", "missed", "233"],
        ["found,", "%", "at", "least", "95", "99.9", "met"],
        ["2", "targets,", "1", "missed"],
    ]


def test_missed_target_fails_loudly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "meet") == 0
    assert run(monkeypatch, "miss", "meet") == 1
    assert "Slow: target at most 2: missed" in capsys.readouterr().out


def test_broken_benchmark_loses_no_figures_of_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "fail", "meet") == 1
    told = capsys.readouterr()
    assert "RuntimeError: no machine" in told.err
    assert "Found: target at least 95: met" in told.out
    assert told.out.endswith("1 targets, 0 missed\nNot measured, because of errors: fail\n")


def test_figures_are_kept_on_purpose_only(monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "meet")
    assert read_released(program.RELEASED) == {}
    run(monkeypatch, "meet", "--save")
    run(monkeypatch, "miss", "--save")
    assert read_released(program.RELEASED) == {"found, %": 95.0, "slow, s": 2.5}
    save([Figure("found, %", 96.123456, 95)], program.RELEASED)
    assert read_released(program.RELEASED) == {"found, %": 96.12, "slow, s": 2.5}
