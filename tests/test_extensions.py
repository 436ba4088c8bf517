"""What docs/architecture.md says of adding something, from outside: a package of one file, used by a command."""

import json
import sys
import textwrap
from contextlib import suppress

import numpy as np
import pytest

from vipa import cli
from vipa.clips.drawing import save_video
from vipa.robots.lerobot_data import open_robot_data
from vipa.worlds.film import film_clip


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(group, name, source) puts a module of another package on the path, with its entry point."""
    site = tmp_path / "site"
    info = site / "kitchen-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kitchen\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(site)

    def add(group: str, name: str, source: str) -> None:
        module = f"kitchen_{name.replace('-', '_')}_{group.rpartition('.')[2]}"
        (site / f"{module}.py").write_text(textwrap.dedent(source))
        with (info / "entry_points.txt").open("a") as file:
            file.write(f"[{group}]\n{name} = {module}\n")

    yield add
    for module in [m for m in sys.modules if m.startswith("kitchen_")]:
        del sys.modules[module]


def said(capsys, *args) -> str:
    capsys.readouterr()
    with suppress(SystemExit):  # after --help; what was said shows whether it was a mistake
        cli.main([str(arg) for arg in args])
    return capsys.readouterr().out


def test_a_benchmark(install, hand3d_path, tmp_path, capsys):
    install(
        "vipa.benchmarks",
        "wordiness",
        '''
        """How many words the true answers have."""
        import json
        from dataclasses import dataclass
        from pathlib import Path
        from vipa.hand3d.dataset.reader import Hand3D

        @dataclass(frozen=True)
        class Settings:
            """Counts words."""
            data: Path
            out: Path
            split: str = "test"

        def run(settings):
            words = [len(record.answer.split()) for record in Hand3D(settings.data).visual(settings.split)]
            settings.out.write_text(json.dumps(words))
            return f"{sum(words)} words in {len(words)} answers"
        ''',
    )
    assert "wordiness         How many words the true answers have." in said(capsys, "evaluate", "--help")
    out = tmp_path / "words.json"
    text = said(capsys, "evaluate", "wordiness", "--data", hand3d_path, "--out", out, "--split", "train")
    words = json.loads(out.read_text())
    assert text == f"{sum(words)} words in {len(words)} answers\nwritten: {out}\n"
    assert words


def test_a_training_and_its_kind_of_data(install, hand3d_path, tmp_path, capsys):
    """The language model learns to say one word of every first frame."""
    install(
        "vipa.data",
        "one_word",
        '''
        """One word about every clip's first frame."""
        from vipa.data.turn_index import TurnIndex
        from vipa.data.turns import Turns
        from vipa.hand3d.dataset.reader import Hand3D
        from vipa.io.cache import cache_folder

        def open_component(spec, packer, width):
            data = Hand3D(spec.path)
            first = {}
            for frame in data.frames():
                first.setdefault(frame.clip_id, frame.id)
            pairs = [((frame,), "What is this?", "table") for frame in first.values()]
            index = TurnIndex.made(cache_folder("one_word", data.content_hash(("frames",))), lambda: [pairs])
            read = lambda group: [data.image(frame) for frame in group]
            return Turns(spec, index, read, packer, data.conventions)
        ''',
    )
    install(
        "vipa.trainings",
        "say-table",
        '''
        """The language model learns one word."""
        from pathlib import Path
        from vipa.data.spec import DataSpec
        from vipa.training.runs import TrainRun

        def make(data: Path, out: Path, word_steps: int = 2) -> TrainRun:
            """Learns for so many steps."""
            return TrainRun(
                name="say-table", start="nano:foundation", out=out, data=(DataSpec("one_word", data, batch=2),),
                trained=("language",), steps=word_steps, learning_rate=1e-4, weight_decay=0.0, warmup=0.0,
            )
        ''',
    )
    assert "say-table         The language model learns one word." in said(capsys, "train", "--help")
    assert "word_steps" in said(capsys, "train", "say-table", "--help")
    out = tmp_path / "run"
    options = ["--word-steps", "3", "--log-every", "1", "--precision", "fp32"]
    text = said(capsys, "train", "say-table", "--data", hand3d_path, "--out", out, *options)
    assert "say-table: 3 steps, loss " in text
    losses = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    assert json.loads((out / "run.json").read_text())["run"]["data"][0]["kind"] == "one_word"


def test_a_training_with_a_loop_of_its_own(install, tmp_path, capsys):
    install(
        "vipa.trainings",
        "by-hand",
        '''
        """Finds a number by hand."""
        from dataclasses import dataclass
        from pathlib import Path

        @dataclass(frozen=True)
        class ByHand:
            """Halves an error."""
            out: Path
            steps: int = 3

            def train(self):
                self.out.write_text(str(0.5 ** self.steps))
                return f"error {0.5 ** self.steps} at {self.out}"

        make = ByHand
        ''',
    )
    out = tmp_path / "error"
    assert f"by-hand: error 0.0625 at {out}" in said(capsys, "train", "by-hand", "--out", out, "--steps", "4")
    assert out.read_text() == "0.0625"


def test_a_hand_tracker(install, tmp_path, capsys):
    """It knows where the filmed hands are, from an array file."""
    install(
        "vipa.trackers",
        "array-file",
        '''
        """Hands from an array (frames, 21, 3) of the right hand."""
        import numpy as np
        from vipa.hands.trackers import SeenHand

        def open_tracker(path):
            joints = np.load(path)
            return lambda images, timestamps, intrinsics: [
                (SeenHand("right", 1.0, joints[i], np.ones(21)),) for i in range(len(images))
            ]
        ''',
    )
    clip = film_clip(10_000_000)
    root, array = tmp_path / "kitchen", tmp_path / "hands.npy"
    save_video(clip.frames.read(range(len(clip))), root / "videos" / "a.mp4", 10)
    np.save(array, clip.hand("right").joints_camera)
    fov = np.degrees(2 * np.arctan(clip.intrinsics.width / (2 * clip.intrinsics.fx)))
    options = ["--tracker", "array-file", "--hands", array, "--fov-degrees", fov, "--sheet", tmp_path / "s.png"]
    text = said(capsys, "sources", "check", "folder", root, *options)
    assert "1 clips" in text and "hands: right 1\n" in text and "no problems" in text


def test_a_robot(install, tmp_path, capsys):
    install(
        "vipa.robots",
        "crane",
        '''
        """A crane on rails, recorded as NumPy files."""
        import numpy as np
        from vipa.clips.video import ArrayFrames
        from vipa.robots.contract import ActionContract, Dimension
        from vipa.robots.episodes import Episode, EpisodeSet

        def contract():
            place = Dimension("x", "metre", "absolute")
            return ActionContract("crane", action=(place,), state=(place,), frame="rails: x along them",
                                  rotation="none", gripper="none", rate=5.0, horizon=4, views=("top",))

        def read(root):
            def open_one(path):
                x = np.load(path).astype(np.float32)[:, None]
                black = ArrayFrames(np.zeros((len(x) - 1, 16, 16, 3), np.uint8))
                return Episode(path.stem, {"top": black}, x[:-1], x[1:], "move", rate=5.0)

            return EpisodeSet(contract(), tuple(sorted(root.glob("*.npy"))), open_one)
        ''',
    )
    assert "crane: 1 action and 1 state numbers, 5 Hz, views top" in said(capsys, "robots", "list")
    recorded = tmp_path / "recorded"
    recorded.mkdir()
    for name in ("a", "b"):
        np.save(recorded / f"{name}.npy", np.linspace(0, 1, 6))
    out = tmp_path / "episodes"
    assert said(capsys, "robots", "convert", "crane", recorded, "--out", out) == f"2 episodes: {out}\n"
    opened = open_robot_data(out)
    assert opened.contract.robot == "crane"
    assert [episode.id for episode in opened] == ["a", "b"]
    np.testing.assert_allclose(opened[0].action[:, 0], np.linspace(0, 1, 6)[1:], atol=1e-6)


def test_a_recorder(install, capsys, tmp_path):
    install(
        "vipa.recorders",
        "crane",
        '''
        """Loads, moved by a crane."""
        from dataclasses import dataclass
        from functools import partial
        from pathlib import Path

        import numpy as np

        from vipa.clips.video import ArrayFrames
        from vipa.robots.contract import ActionContract, Dimension
        from vipa.robots.episodes import Episode
        from vipa.robots.recording import Attempt, record


        @dataclass(frozen=True)
        class Settings:
            """Records a crane."""

            out: Path
            episodes: int = 2


        def move(number):
            x, black = np.linspace(0, number, 4)[:, None], np.zeros((4, 16, 16, 3), np.uint8)
            return Episode(f"load_{number}", {"top": ArrayFrames(black)}, x, x, "move", 5.0, success=number != 1)


        def run(settings):
            place = Dimension("x", "metre", "absolute")
            contract = ActionContract("crane", action=(place,), state=(place,), frame="rails", rotation="none",
                                      gripper="none", rate=5.0, horizon=4, views=("top",))
            loads = (Attempt(f"load_{i}", partial(move, i)) for i in range(9))
            return record(settings.out, contract, loads, {}, wanted=settings.episodes)
        ''',
    )
    assert "crane             Loads, moved by a crane." in said(capsys, "record", "--help")
    out = tmp_path / "data"
    assert "2 episodes; 1 attempts failed" in said(capsys, "record", "crane", "--out", out)
    assert [episode.id for episode in open_robot_data(out)] == ["load_0", "load_2"]


def test_a_verb(install, capsys):
    install(
        "vipa.verbs",
        "greet",
        '''
        """Says hello."""

        def main(args):
            print("hello", *args)
        ''',
    )
    assert "  greet           Says hello." in said(capsys, "--help")
    assert said(capsys, "greet", "hand") == "hello hand\n"
