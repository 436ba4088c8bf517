from collections.abc import Callable
from pathlib import Path

import pytest

from vipa.clips import Clip, ClipError
from vipa.clips.sources import load_source
from vipa.worlds.fixtures import Fixture, write_fixture


@pytest.fixture(scope="session")
def fixture_of(tmp_path_factory) -> Callable[[str], Fixture]:
    """The written fake of a data set, made once a session. Tests do not change it."""
    made: dict[str, Fixture] = {}

    def get(name: str) -> Fixture:
        if name not in made:
            made[name] = write_fixture(name, tmp_path_factory.mktemp(name))
        return made[name]

    return get


@pytest.fixture(scope="session")
def read() -> Callable[..., dict[str, Clip | ClipError]]:
    """(source, fixture, root) -> {clip id: what the source gives}, in its order."""

    def get(name: str, fixture: Fixture, root: Path | None = None) -> dict[str, Clip | ClipError]:
        out = load_source(name).read_clips(root or fixture.root, fixture.options)
        return {c.id if isinstance(c, Clip) else c.clip_id: c for c in out}

    return get
