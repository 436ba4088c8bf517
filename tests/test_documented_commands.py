"""Every command that the README, the documents, docstrings, help and error texts name exists as it is written.

A command is a code span, a line of a code block, or a text of the source that begins with `vipa`, `make`, `python -m`
or `python FILE`. WORDS IN CAPITALS stand for anything. It goes through the real parser of its verb, which stops there;
what only looks is run. Options that are named without a command must be some verb's.
"""

import argparse
import ast
import functools
import importlib.util
import inspect
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import tyro

from vipa import cli
from vipa.benchmarks import BENCHMARKS
from vipa.benchmarks.recorders import RECORDERS
from vipa.training.known import TRAININGS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "speed").glob("*.py")])

COMMAND = re.compile(r"(?:(?:[A-Z_]+=\S+|taskset -c \d+|usage:|\$) )*((?:vipa|make|python(?= -m| \S+\.py)) \S.*)")
FENCED = re.compile(r"```.*?```", re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_.-]*[a-z0-9]")
STAND_INS = {
    "SOURCE": "tabletop",
    "NAME": "tabletop",
    "KIND": "stage1",
    "STAGE": "stage1",
    "BUDGET": "small",
    "VERB": "doctor",
    "DEGREES": "60",
    "N": "2",
}
FOREIGN = {
    "--force-reinstall": "pip's",
    "--no-deps": "pip's",
    "--img_focal": "HaWoR's own",
    "--no-video": "tyro's no-form",
    "--dataset.repo_id": "LeRobot's",
    "--dataset.root": "LeRobot's",
    "--env.type": "LeRobot's",
    "--fps": "LeRobot's",
    "--inference.type": "LeRobot's",
    "--output_dir": "LeRobot's",
    "--policy.path": "LeRobot's",
    "--policy.robot": "packages/lerobot_policy_vipa's",
    "--policy.start": "packages/lerobot_policy_vipa's",
    "--policy.type": "LeRobot's",
    "--rename_map": "LeRobot's",
    "--return_to_initial_position": "LeRobot's",
    "--strategy.type": "LeRobot's",
    "--no-docker": "vla-eval's",
    **dict.fromkeys(("--short", "--porcelain", "--untracked-files"), "git's"),
}
LOOKING = (
    "vipa sources list",
    "vipa model summary",
    "vipa doctor",
    "vipa evaluate --help",
    "vipa train --help",
)


def spans(text: str) -> Iterator[str]:
    return (" ".join(found.split()) for found in SPAN.findall(FENCED.sub("", text)))


def of_document(path: Path) -> Iterator[str]:
    """Lines of code blocks, and code spans."""
    text = re.sub(r"\\\n\s*", "", path.read_text())
    prose, fenced = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()
        else:
            prose.append(line)
    yield from spans("\n".join(prose))


def literals(path: Path) -> Iterator[str]:
    """Texts of a source file; what an f-string fills in is its expression in capitals."""

    def visit(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.JoinedStr):
            parts = [v.value if isinstance(v, ast.Constant) else filled(v) for v in node.values]
            yield "".join(str(part) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        else:
            for child in ast.iter_child_nodes(node):
                yield from visit(child)

    def filled(value: ast.expr) -> str:
        assert isinstance(value, ast.FormattedValue)
        return re.sub(r"\W+", "_", ast.unparse(value.value)).upper()

    return visit(ast.parse(path.read_text()))


def of_source(path: Path) -> Iterator[str]:
    """Code spans, lines that begin with a command, and whole texts."""
    for text in literals(path):
        yield from spans(text)
        lines = [line.strip() for line in re.sub(r"\\\n\s*", "", text).splitlines()]
        yield from (line for line in lines if not line.startswith("make ") or line == text)


def commands() -> dict[str, str]:
    """Command -> the first file that names it, without comments and what is in brackets or follows."""
    found: dict[str, str] = {}
    for path in [*DOCUMENTS, *SOURCES]:
        for text in of_document(path) if path.suffix == ".md" else of_source(path):
            if match := COMMAND.fullmatch(text):
                command = re.split(r"\s+#|\s{3,}|;|\s\(|: ", match[1])[0]
                command = re.sub(r"\[(?!--)[^]]*\]", "", command).replace("[", "").replace("]", "")
                first = command.split()[1]
                if not first.isupper() or first in STAND_INS:
                    found.setdefault(command.strip().rstrip("."), str(path.relative_to(ROOT)))
    return found


class Parsed(Exception):
    """The command line was understood."""


@pytest.fixture
def stop_after_parsing(monkeypatch):
    """Parsers do what they do, with the functions that they would call emptied, and then stop."""
    real_cli, real_subcommands, real_argparse = (
        tyro.cli, tyro.extras.subcommand_cli_from_dict, argparse.ArgumentParser.parse_args,
    )  # fmt: skip

    def emptied(f: Callable) -> Callable:
        if inspect.isclass(f):
            return f

        @functools.wraps(f)
        def nothing(*_, **__):
            return None

        return nothing

    def parse(f, *args, return_unknown_args=False, **settings):
        if return_unknown_args:
            return real_cli(f, *args, return_unknown_args=True, **settings)
        real_cli(emptied(f), *args, **settings)
        raise Parsed

    def parse_subcommands(subcommands, *args, **settings):
        real_subcommands({name: emptied(f) for name, f in subcommands.items()}, *args, **settings)
        raise Parsed

    def parse_arguments(self, *args, **settings):
        real_argparse(self, *args, **settings)
        raise Parsed

    monkeypatch.setattr(tyro, "cli", parse)
    monkeypatch.setattr(tyro.extras, "subcommand_cli_from_dict", parse_subcommands)
    if real_argparse.__qualname__ == "ArgumentParser.parse_args":
        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_arguments)
    monkeypatch.setenv("COLUMNS", "200")


def outcome(run: Callable[[], object], capsys) -> str:
    """ "" where the command line is understood, otherwise what was said."""
    capsys.readouterr()
    try:
        run()
    except Parsed:
        return ""
    except SystemExit as stopped:
        if stopped.code in (0, None):
            return ""
    except (ValueError, OSError) as error:
        return str(error)
    else:
        return ""
    said = capsys.readouterr()
    return " ".join((said.err + said.out).split()) or "refused"


def vipa_fault(words: list[str], capsys) -> str:
    fault = outcome(lambda: cli.main(words), capsys)
    is_name = not any(word.startswith("-") or word.isupper() for word in words)  # such as `vipa evaluate tabletop`
    missing = (len(words) == 1 and words[0] in cli.verbs()) or fault.startswith("Required options")
    return "" if is_name and missing else fault


def python_fault(words: list[str], capsys, monkeypatch) -> str:
    """Runs the module or file as far as the end of its parsing."""
    module = words[0] == "-m"
    monkeypatch.syspath_prepend(str(ROOT / "speed"))
    name, arguments = words[1 if module else 0], words[2 if module else 1 :]
    if name == "pytest":
        return ""
    spec = importlib.util.find_spec(name) if module else None
    path = Path(spec.origin) if spec and spec.origin else ROOT / name
    if not path.is_file():
        return f"there is no {path}"
    if not re.search(r"tyro\.(cli|extras\.subcommand_cli)|ArgumentParser", path.read_text()):
        return "it has no parser: `--help` would run it"
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    start = (
        functools.partial(runpy.run_module, name)
        if module
        else functools.partial(runpy.run_path, str(ROOT / name))
    )
    try:
        return outcome(lambda: start(run_name="__main__"), capsys)
    except ImportError as error:
        return str(error)


def fault_of(command: str, capsys, monkeypatch) -> str:
    program, *words = [STAND_INS.get(w, w.partition("|")[0]) for w in shlex.split(command)]
    if program == "vipa":
        return vipa_fault(words, capsys)
    if program == "python":
        return python_fault(words, capsys, monkeypatch)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    return "" if set(words) <= set(targets) else f"no such target; there are {', '.join(targets)}"


def test_every_command_that_a_text_names_is_understood(capsys, monkeypatch, stop_after_parsing):
    found = commands()
    assert {"vipa demo", "make test"} <= set(found)
    faults = {c: (path, fault) for c, path in found.items() if (fault := fault_of(c, capsys, monkeypatch))}
    assert not faults, "\n".join(f"{path}: `{command}`: {fault}" for command, (path, fault) in faults.items())


@pytest.mark.parametrize(
    "command",
    ["vipa anotate x y --out z", "vipa annotate tabletop x --out y --fovv 3", "vipa model summary vipa-9b",
     "vipa evaluate hand4d", "vipa import-weights mono", "make tests", "python -m vipa.no_such_module",
     "python speed/model.py --no-such-option"],
)  # fmt: skip
def test_a_command_that_is_not_there_is_noticed(command, capsys, monkeypatch, stop_after_parsing):
    assert fault_of(command, capsys, monkeypatch)


def test_every_option_that_a_text_names_is_some_verb_s(capsys, monkeypatch, stop_after_parsing):
    have = {*FOREIGN, "--debug", "--version"}
    subverbs = {"evaluate": BENCHMARKS.names(), "train": TRAININGS.names(),
                "record": RECORDERS.names(), "ablate": ("small",),
                "robots": ("list", "convert", "check", "template"),
                "sources": ("check", "fixture", "list"), "model": ("summary", "check"),
                "export": ("conversations", "lerobot", "episodes", "hub")}  # fmt: skip
    for verb in cli.verbs():
        for words in ([verb, sub] for sub in subverbs[verb]) if verb in subverbs else [[verb]]:
            capsys.readouterr()
            with pytest.raises(SystemExit) as stopped:
                cli.main([*words, "--help"])
            assert stopped.value.code == 0
            said = capsys.readouterr().out
            own = re.findall(r"Options of its own: (.*)\.", said)
            have.update(OPTION.findall(said), (f"--{name}".replace("_", "-") for name in "".join(own).split(", ")))
    for command in commands():
        if command.startswith("python"):
            program = shlex.split(command)[1:]
            name, rest = (program[:2], program[2:]) if program[0] == "-m" else (program[:1], program[1:])
            choice = [word for word in rest[:1] if not word.startswith("-")]
            python_fault([*name, *choice, "--help"], capsys, monkeypatch)
            have.update(OPTION.findall(capsys.readouterr().out))
    named = {}
    for path in [*DOCUMENTS, *SOURCES]:
        document = path.suffix == ".md"
        for text in of_document(path) if document else literals(path):
            if not document or text.startswith(("-", "vipa")):
                named.update(dict.fromkeys(OPTION.findall(text), path))
    missing = {option: str(path) for option, path in named.items() if option not in have}
    assert not missing


@pytest.mark.parametrize("command", sorted(c for c in commands() if c.startswith(LOOKING)))
def test_commands_that_only_look_are_run(command, capsys):
    words = [STAND_INS.get(word, word) for word in shlex.split(command)[1:]]
    if words == ["model", "summary"]:
        words.append("nano")
    lacking = suppress(SystemExit) if words == ["doctor"] else nullcontext()  # where this machine lacks something
    with lacking:
        cli.main(words)
    assert len(capsys.readouterr().out.splitlines()) > 3


def test_every_extra_that_a_text_names_is_there():
    project = (ROOT / "pyproject.toml").read_text()
    extras = set(re.findall(r"^(\w+) = \[", project.partition("[project.optional-dependencies]")[2], re.M))
    for path in [*DOCUMENTS, *SOURCES, ROOT / "scripts" / "make_environment.sh"]:
        for name in re.findall(r"(?:vipa|'\.)\[([a-z,]+)\]", path.read_text()):
            assert set(name.split(",")) <= extras, f"{path}: {name}"
