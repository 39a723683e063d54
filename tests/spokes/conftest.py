"""Fixtures for sessions on other machines."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from spoke_harness import SpokeHarness, open_spokes


@pytest.fixture
def spokes(tmp_path: Path) -> Iterator[SpokeHarness]:
    """A repository whose sessions run on one other machine, called north."""
    with open_spokes(tmp_path) as made:
        yield made


@pytest.fixture
def two_spokes(tmp_path: Path) -> Iterator[SpokeHarness]:
    """The same with two machines, north and south."""
    with open_spokes(tmp_path, ("north", "south")) as made:
        yield made
