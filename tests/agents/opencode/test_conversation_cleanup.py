"""What servers of earlier runs store, and what of it is removed once nothing is open."""

from pathlib import Path

from tasks_lib.agents.opencode.backend import find_data, forget_conversations


def test_conversations_go_and_downloads_stay(tmp_path: Path) -> None:
    place = find_data(tmp_path, "/srv/shop/.git")
    login = tmp_path / "auth.json"
    login.write_text("{}")
    for number in ("0", "1"):
        for kind in ("data/opencode", "cache/opencode"):
            (place / number / kind).mkdir(parents=True)
            (place / number / kind / "file").write_text("x")
        (place / number / "data/opencode/auth.json").symlink_to(login)
    other = find_data(tmp_path, "/srv/other/.git") / "0/data"
    other.mkdir(parents=True)
    forget_conversations(place)
    assert sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()) == [
        "0/cache/opencode/file",
        "1/cache/opencode/file",
    ]
    assert login.exists()
    assert other.exists()
