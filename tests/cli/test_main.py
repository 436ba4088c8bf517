import subprocess
import sys

import pytest

from vipa import cli


def run(*args):
    return subprocess.run([sys.executable, "-m", "vipa", *args], capture_output=True, text=True, check=False)


def test_help_lists_every_verb_with_a_summary():
    lines = cli.help_text().splitlines()
    for verb in cli.verbs():
        assert any(line.split()[:1] == [verb] and len(line.split()) > 1 for line in lines), verb


def test_help_answers_without_loading_heavy_libraries():
    code = "import sys; from vipa.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "mujoco", "matplotlib", "datasets"} & set(done.stderr.split())
    assert "doctor" in done.stdout


def test_help_of_what_is_named_comes_without_torch():
    code = """
import sys
from contextlib import suppress
from vipa.cli import main
for words in "train stage1", "train stage3", "record tabletop", "evaluate tabletop", "evaluate cut3r", "ablate":
    with suppress(SystemExit):
        main([*words.split(), "--help"])
    assert "torch" not in sys.modules, words
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_mistake_prints_one_line_and_exits_with_2():
    done = run("anotate")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "anotate" in done.stderr


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="unknown"):
        cli.main(["anotate", "--debug"])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("clip 'a':\n  bad"), "clip 'a': bad"),
        (FileNotFoundError(2, "No such file or directory", "videos"), "videos: No such file or directory"),
        (PermissionError("cannot write"), "cannot write"),
    ],
)
def test_error_line_is_one_line_without_the_type(error, line):
    assert cli.error_line(error) == line
