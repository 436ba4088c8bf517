"""Things found by name: a file of a folder or an entry point; only what is asked for is imported."""

import sys
from importlib.metadata import EntryPoint

import pytest

from vipa.io.plugins import Plugins


@pytest.fixture
def kitchen(tmp_path, monkeypatch):
    """A package with tools, and a function that installs another distribution with entry points."""
    folder = tmp_path / "kitchen_of_a_test"
    folder.mkdir()
    for name in ("__init__", "base", "spoon_tool", "big_knife_tool", "_hidden_tool"):
        (folder / f"{name}.py").write_text("" if name == "__init__" else f"name = {name!r}\n")
    monkeypatch.syspath_prepend(tmp_path)

    def install(distribution: str, *lines: str) -> None:
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join(["[kitchen.tools]", *lines]))

    yield install
    for module in [m for m in sys.modules if m.startswith("kitchen_of_a_test")]:
        del sys.modules[module]


TOOLS = Plugins("tool", "kitchen_of_a_test", "kitchen.tools", suffix="_tool")


def test_names_are_listed_and_nothing_is_imported(kitchen):
    kitchen("theirs", "whisk = module_that_is_not_there")
    assert TOOLS.names() == ["big_knife", "spoon", "whisk"]
    assert not any(m.startswith("kitchen_of_a_test.") for m in sys.modules)


def test_a_name_gives_the_file_or_what_the_entry_point_stands_for(kitchen):
    kitchen("theirs", "whisk = collections:OrderedDict", "pan = json")
    assert TOOLS.load("spoon").name == "spoon_tool"
    assert TOOLS.load("big-knife") is TOOLS.load("big_knife")
    assert TOOLS.load("whisk").__name__ == "OrderedDict"
    assert TOOLS.load("pan").__name__ == "json"
    assert Plugins("tool", "kitchen_of_a_test", "nothing").names() == ["base", "big_knife_tool", "spoon_tool"]


@pytest.mark.parametrize("name", ["fork", "base", "_hidden", "hidden", "", "spoon_tool", "../spoon"])
def test_an_unknown_name_lists_the_known_ones(kitchen, name):
    with pytest.raises(ValueError, match=r"tool '.*' is unknown; known: big_knife, spoon$"):
        TOOLS.load(name)


def test_two_things_of_one_name_are_refused_when_it_is_asked_for(kitchen):
    kitchen("theirs", "spoon = json", "pan = json")
    kitchen("ours", "pan = collections", "big-knife = json")
    for name, first, second in (
        ("spoon", "kitchen_of_a_test.spoon_tool", r"json \(package theirs\)"),
        ("big_knife", "kitchen_of_a_test.big_knife_tool", r"json \(package ours\)"),
        ("pan", r"(json|collections) \(package (theirs|ours)\)", r"(json|collections) \(package (theirs|ours)\)"),
    ):
        with pytest.raises(ValueError, match=f"tool '{name}' is there 2 times: {first} and {second}; rename"):
            TOOLS.load(name)
    assert TOOLS.names() == ["big_knife", "pan", "spoon"]


@pytest.mark.parametrize("value", ["module_that_is_not_there", "json:nothing"])
def test_an_entry_point_that_cannot_be_loaded_says_whose_it_is(kitchen, value):
    kitchen("theirs", f"whisk = {value}")
    with pytest.raises(ValueError, match=r"tool 'whisk': .* \(package theirs\) cannot be loaded"):
        TOOLS.load("whisk")


def test_an_entry_point_without_a_distribution_is_named_by_its_value(monkeypatch, kitchen):
    point = EntryPoint("spoon", "json", "kitchen.tools")
    monkeypatch.setattr("vipa.io.plugins.entry_points", lambda group: [point])
    with pytest.raises(ValueError, match="spoon_tool and json; rename"):
        TOOLS.load("spoon")
