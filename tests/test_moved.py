import importlib
import subprocess
import sys

import pytest

from vipa.moved import MOVED, NAMES


def test_every_new_place_is_there():
    for new in MOVED.values():
        assert importlib.util.find_spec(f"vipa.{new}") is not None, new


def test_every_name_that_moved_is_found_where_it_was():
    for module, names in NAMES.items():
        for name in names:
            with pytest.warns(DeprecationWarning, match=f"{name} is now vipa"):
                assert getattr(importlib.import_module(f"vipa.{module}"), name) is not None


def test_a_module_is_found_by_its_old_name_with_a_word_of_its_new_one():
    """In a process of its own: nothing is imported yet."""
    names = ["clips.fixtures", "hand3d.annotate", "training.demonstrations", "weights"]
    code = "".join(f"import vipa.{old} as m; print(m.__name__)\n" for old in names)
    run = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [f"vipa.{MOVED[old]}" for old in names]
    for old in names:
        assert f"vipa.{old} is now vipa.{MOVED[old]}" in run.stderr


def test_a_name_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("vipa.hand3d.no_such_part")
