"""What is known of a file is forgotten when the file changes, however little of that shows."""

import os

import pytest

from vipa.io import file_facts
from vipa.io.cache import cache_folder
from vipa.io.file_facts import fact


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(file_facts, "SETTLED", -1.0)
    monkeypatch.setenv("VIPA_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "film.mp4"
    path.write_bytes(b"before")
    return path


def asked(path, kind: str = "content") -> tuple[object, int]:
    """What is said of it, and how often that had to be found out."""
    times = []
    return fact(kind, path, lambda: times.append(1) or {"holds": path.read_bytes().decode()}), len(times)


def test_it_is_found_out_once_for_each_kind_and_path(file):
    assert asked(file) == ({"holds": "before"}, 1)
    assert asked(file) == ({"holds": "before"}, 0)
    assert asked(file, "other") == ({"holds": "before"}, 1)
    assert asked(file.rename(file.with_name("moved.mp4")))[1] == 1


def test_other_bytes_are_noticed_though_size_and_time_of_change_are_the_same(file):
    asked(file)
    state = file.stat()
    file.write_bytes(b"after!")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (state.st_size, state.st_mtime_ns)
    assert asked(file) == ({"holds": "after!"}, 1)


def test_nothing_is_kept_of_a_file_that_just_changed_or_changes_meanwhile(file, monkeypatch):
    fact("content", file, lambda: file.write_bytes(b"meanwhile"))
    assert asked(file) == ({"holds": "meanwhile"}, 1)
    monkeypatch.setattr(file_facts, "SETTLED", 60.0)
    assert asked(file, "young")[1] == asked(file, "young")[1] == 1


def test_a_damaged_or_unwritable_cache_costs_only_time(file, monkeypatch):
    asked(file)
    (kept,) = cache_folder("files", "content").glob("*")
    kept.write_bytes(b"{")
    assert asked(file) == ({"holds": "before"}, 1)
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.write_text("a file where the folder should be")
    assert asked(file) == asked(file) == ({"holds": "before"}, 1)


def test_a_missing_file_and_what_cannot_be_found_out_are_errors_each_time(file):
    with pytest.raises(FileNotFoundError):
        asked(file.with_name("none"))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fact("content", file, lambda: 1 // 0)
