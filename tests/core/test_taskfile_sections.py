"""Sections of a task file are found, replaced and adopted, and everything else stays unchanged byte for byte."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_lib.taskfile.parsing import adopt_sections, get_section, set_section

LINES = st.sampled_from(
    [
        "## Notes",
        "## notes ##",
        "  ## Summary",
        "## Description",
        "# Title",
        "### Deeper",
        "##No heading",
        "    ## Indented code",
        "```",
        "```sh",
        "``` `no` fence",
        "~~~~",
        "- ```",
        "  ```",
        "1. ~~~",
        "   ~~~",
        "> ## quoted",
        "- [ ] a box",
        "text",
        "größe  ",
        "",
        "  ",
    ]
)
ENDINGS = st.sampled_from(["\n", "\n", "\r\n"])
HEADINGS = st.sampled_from(["Notes", "Summary", "Description", "New one"])
FRONT = "---\nid: a\n# comment\n## Notes\nname: b\n---\n"


@st.composite
def texts(draw: st.DrawFn) -> str:
    is_mixed = draw(st.booleans())
    ending = draw(ENDINGS)
    text = "".join(line + (draw(ENDINGS) if is_mixed else ending) for line in draw(st.lists(LINES, max_size=14)))
    text = draw(st.sampled_from(["", FRONT, "\ufeff" + FRONT.replace("\n", "\r\n")])) + text
    return text if draw(st.booleans()) else text.rstrip("\r\n")


def bare_lines(text: str) -> list[str]:
    return [line.removesuffix("\r") for line in text.split("\n")]


# What can surround a section without being part of it: every block ends outside a code fence.
BLOCKS = st.sampled_from(
    [
        "text\n",
        "größe  \n\n",
        "### Deeper\n- [ ] a box\n",
        "```sh\n## Notes\n```\n",
        "~~~~\n## Notes\n```\n~~~\n~~~~\n",
        "- ```\n  ## Notes\n  ```\n",
        "    ## Notes\n",
        "##Notes\n### Notes\n####### Title\n",
        "``` `no` fence\n",
    ]
)
PROSE = st.lists(BLOCKS, max_size=4).map("".join)
OTHER = st.sampled_from(["## Description\n", "  ## Summary ##\n", "# Title\n", "##\tAcceptance\n"])
AFTER = st.lists(st.tuples(OTHER, PROSE).map("".join), max_size=2).map("".join)


@st.composite
def framed(draw: st.DrawFn) -> tuple[str, str, str]:
    """The text up to and including the heading of a Notes section, its body, and the text after it."""
    ending = draw(ENDINGS)
    front = draw(st.sampled_from(["", FRONT]))
    heading = draw(st.sampled_from(["## Notes\n", "## notes  \n", "   ##  NOTES ##\n"]))
    parts = front + draw(PROSE) + draw(AFTER) + heading, draw(PROSE), draw(AFTER)
    before, body, after = (part.replace("\n", ending) for part in parts)
    if draw(st.booleans()):
        after = after.rstrip("\r\n")
    return before, body, after


@settings(max_examples=400, deadline=None)
@given(framed(), texts())
def test_only_the_body_of_a_section_changes(frame: tuple[str, str, str], body: str) -> None:
    before, old, after = frame
    text = before + old + after
    assert get_section(text, "Notes") == plain(old)
    new = set_section(text, "notes", body)
    assert new.startswith(before)
    assert new.endswith(after)
    assert not after or get_section(new, "Notes") == plain(new[len(before) : len(new) - len(after)])
    assert new.count("\r\n") in (0, new.count("\n"))
    assert set_section(new, "Notes", body) == new


def plain(body: str) -> str:
    lines = body.replace("\r\n", "\n").split("\n")
    filled = [number for number, line in enumerate(lines) if line.strip(" \t")]
    return "\n".join(lines[filled[0] : filled[-1] + 1]) if filled else ""


@settings(max_examples=400, deadline=None)
@given(texts(), HEADINGS, texts())
def test_a_section_reads_back_as_it_was_set(text: str, heading: str, body: str) -> None:
    new = set_section(text, heading, body)
    found = get_section(new, heading)
    assert found is not None
    assert found == get_section(set_section("", "Notes", body), "Notes")
    assert get_section(set_section(new, heading, found), heading) == found
    assert set_section(new, heading, body) == new
    if get_section(text, heading) is None:
        assert new.startswith(text)
    assert not text or text.endswith("\n") == new.endswith("\n")


@settings(max_examples=400, deadline=None)
@given(framed(), framed())
def test_adopted_sections_are_verbatim_and_the_rest_stays(
    frame: tuple[str, str, str], source: tuple[str, str, str]
) -> None:
    before, old, after = frame
    text, theirs = before + old + after, "".join(source)
    new = adopt_sections(text, theirs, ["Notes"])
    assert get_section(new, "Notes") == plain(source[1])
    assert new.startswith(before)
    assert new.endswith(after)
    if plain(old) == plain(source[1]):
        assert new == text
    elif plain(source[1]):
        assert source[1].strip("\r\n") in new
    assert adopt_sections(new, theirs, ["Notes"]) == new


@settings(max_examples=200, deadline=None)
@given(texts(), texts())
def test_adopting_never_changes_equal_sections(onto: str, source: str) -> None:
    assert adopt_sections(onto, onto) == onto
    new = adopt_sections(onto, source)
    assert adopt_sections(new, source) == new


def test_a_missing_section_is_added_at_the_end_in_the_endings_of_the_file() -> None:
    assert set_section("# T\r\ntext", "Notes", "a\nb\n") == "# T\r\ntext\r\n\r\n## Notes\r\n\r\na\r\nb"
    assert set_section("", "Notes", "a") == "## Notes\n\na\n"


def test_a_body_cannot_open_a_section_or_leave_a_fence_open() -> None:
    new = set_section("## Notes\n## Summary\nkept\n", "Notes", "# One\n## Summary\n```\n## in code")
    assert get_section(new, "Notes") == "### One\n### Summary\n```\n## in code\n```"
    assert get_section(new, "Summary") == "kept"


def test_a_section_is_added_outside_a_fence_that_was_never_closed() -> None:
    new = set_section("text\n- ```\n  code\n", "Notes", "a")
    assert new == "text\n- ```\n  code\n  ```\n\n## Notes\n\na\n"
    assert get_section(new, "Notes") == "a"


def test_a_comment_in_front_matter_is_not_a_heading() -> None:
    assert get_section(FRONT, "Notes") is None
    assert set_section(FRONT.rstrip("\n"), "Notes", "a") == FRONT + "\n## Notes\n\na"


def test_notes_that_swallow_the_file_in_an_open_fence_do_not_swallow_what_follows() -> None:
    new = adopt_sections("## Notes\n\n## Summary\nours\n", "## Notes\n```\nlog\n\n## Other\n")
    assert get_section(new, "Summary") == "ours"
    assert get_section(new, "Notes") == "```\nlog\n\n## Other\n```"


def test_a_repeated_section_is_adopted_in_order() -> None:
    new = adopt_sections("## Notes\n\n## End\n", "## Notes\na\n## Notes\nBlocked: b\n")
    assert new == "## Notes\n\na\n\n## End\n\n## Notes\n\nBlocked: b\n"


def test_an_empty_section_differs_from_a_missing_one() -> None:
    assert get_section("## Notes\n\n## Summary", "notes") == ""
    assert get_section("## Notes\n\n## Summary", "Summary") == ""
    assert get_section("## Notes\n", "Summary") is None


def test_adopting_an_open_fence_twice_is_adopting_it_once() -> None:
    source = "## Summary\n## Notes\n```\na\nb"
    once = adopt_sections("## Notes\n```\na\r\nb", source)
    assert once == "## Notes\n```\na\r\nb\r\n```\r\n\r\n## Summary"
    assert adopt_sections(once, source) == once
