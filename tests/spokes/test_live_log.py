"""Pieces of a log that arrive while it grows make the same log, and say what is missing."""

from pathlib import Path

from tasks_lib.spokes.live_log import PIECE_BYTES, LogMirror, read_end


def test_pieces_make_the_log_that_they_come_from(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    mirror = LogMirror(target)
    for line in ("one\n", "", "zw\u00f6lf\n", "x" * PIECE_BYTES):
        with source.open("a") as file:
            file.write(line)
        mirror.add(*read_end(source))
        assert target.read_bytes() == source.read_bytes()


def test_what_was_too_much_for_a_piece_is_counted(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text(f"begin{'-' * PIECE_BYTES}end")
    LogMirror(target).add(*read_end(source))
    said = target.read_text()
    assert said.startswith("\n[8 bytes follow after the turn]\n-")
    assert said.endswith("-end")


def test_a_run_that_was_killed_has_begun_the_file(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("one\ntwo\n")
    target.write_text("one\n")
    LogMirror(target).add(*read_end(source))
    assert target.read_text() == "one\ntwo\n"


def test_bytes_that_are_no_text_keep_their_number(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"\xff\xfe " + "\u00e9".encode() * PIECE_BYTES + b"!")
    piece, size = read_end(source)
    assert (len(piece.encode("utf-8", "replace")), size) == (PIECE_BYTES, source.stat().st_size)
    LogMirror(target).add(piece, size)
    assert target.read_bytes().endswith("\u00e9!".encode())
