"""What the code imports is declared, what is declared is imported, and what is installed is pinned."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {"pyyaml": "yaml", "pillow": "PIL", "rerun-sdk": "rerun", "opencv-contrib-python": "cv2"}
"""Import names of distributions that may not be installed where the tests run, and differ from their own name."""
TOOLS = {"import-linter", "peft", "playwright", "pyright", "pytest", "pytest-xdist", "ruff"}
"""Of the extras `dev` and `browser`: what runs or tests the code from outside."""


@cache
def imports() -> dict[str, set[str]]:
    """Top-level module of others -> files of src that import it."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "src").rglob("*.py"):
        if path.parent.name == "simulator_side":  # runs in a simulator's own environment
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top != "vipa":
                    found.setdefault(top, set()).add(str(path.relative_to(ROOT)))
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> dict[str, str]:
    """Distribution -> where it is declared ("" for what every installation has)."""
    places = {canonical(Requirement(line).name): "" for line in PROJECT["dependencies"]}
    for extra, lines in PROJECT["optional-dependencies"].items():
        for line in lines:
            places.setdefault(canonical(Requirement(line).name), extra)
    return places


installed = cache(packages_distributions)


def distributions_of(module: str) -> set[str]:
    known = {canonical(name) for name in installed().get(module, ())}
    return known | {name for name, imported in MODULES.items() if imported == module} or {canonical(module)}


def test_every_import_is_declared():
    have = set(declared())
    missing = {module: files for module, files in imports().items() if not distributions_of(module) & have}
    assert not missing


def test_every_declared_package_is_imported():
    used = {name for module in imports() for name in distributions_of(module)}
    idle = [name for name in declared() if name not in used | TOOLS | {"vipa"}]
    assert not idle


@pytest.mark.parametrize("kind", ["dependencies", "dev"])
def test_what_an_installation_for_the_tests_brings_is_pinned(kind):
    """The closure of the requirements, as installed here, is in constraints.txt, and nothing else is."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    todo = [Requirement(line) for line in PROJECT["dependencies"]]
    if kind == "dev":
        for extra in ("sources", "video", "serve", "endpoint", "lora", "trackers", "dev"):
            todo += [Requirement(line) for line in PROJECT["optional-dependencies"][extra]]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement = todo.pop()
        name = canonical(requirement.name)
        for extra in ["", *requirement.extras]:
            if name == "vipa" or (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                needs = distribution(name).requires or []
            except PackageNotFoundError:
                pytest.skip(f"{name} is not installed here")
            todo += [r for r in map(Requirement, needs) if r.marker is None or r.marker.evaluate({"extra": extra})]
    names = {name for name, _ in seen}
    assert not {name for name in names if name not in pinned and not foreign(name)}
    if kind == "dev":
        assert not {name for name in pinned if canonical(name) not in names}


def foreign(name: str) -> bool:
    """Of another build of torch (CUDA's libraries), or of pip's own surroundings."""
    return name in ("setuptools", "triton") or name.startswith(("nvidia-", "cuda-"))
