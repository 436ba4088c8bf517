"""Every module and file that the documents name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = sorted(path.name for path in (ROOT / "src" / "vipa").iterdir() if (path / "__init__.py").exists())
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULE = re.compile(rf"(?:\bvipa\.|`)((?:{'|'.join(ROOMS)})(?:\.[a-z_0-9]+)+)")
FILE = re.compile(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.(?:py|toml))`")


def exists(module: str) -> bool:
    """Whether the name is a module's, or that of something a module holds."""
    parts = module.split(".")
    for count in range(len(parts), 0, -1):
        path = (ROOT / "src" / "vipa").joinpath(*parts[:count])
        if path.with_suffix(".py").exists():
            return (
                count == len(parts)
                or re.search(rf"\b{parts[count]}\b", path.with_suffix(".py").read_text()) is not None
            )
        if path.is_dir():
            return count == len(parts) or parts[count] in (path / "__init__.py").read_text()
    return False


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents_name_modules_and_files_that_exist(document):
    text = document.read_text()
    made_by_the_user = ("json", "npz", "md")
    for module in MODULE.findall(text):
        assert module.split(".")[-1] in made_by_the_user or exists(module), module
    places = [ROOT, ROOT / "src", ROOT / "src" / "vipa", *(ROOT / "src" / "vipa" / room for room in ROOMS)]
    for file in FILE.findall(text):
        assert any((place / file).exists() for place in places), file


def test_a_name_that_is_gone_would_be_found():
    assert exists("hand3d.export.gallery") and exists("hand3d.measure.relations.Relation")
    assert not exists("hand3d.exports.gallery") and not exists("hand3d.measure.nothing")
