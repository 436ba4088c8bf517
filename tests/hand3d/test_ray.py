"""Annotation on a real Ray: a clip that ends its worker is refused, the others are as in one process."""

import os
import resource
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from vipa.clips.example import example_clip
from vipa.hand3d.config import AnnotateConfig, ObjectsConfig, PointsConfig
from vipa.hand3d.estimators.base import Estimators
from vipa.hand3d.estimators.depth_points import DepthPoints
from vipa.hand3d.pipeline import engine
from vipa.hand3d.pipeline.annotate import annotate
from vipa.io.files import OutputError
from vipa.worlds.film import film_clip
from vipa.worlds.seeds import TRAIN

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module", autouse=True)
def session():
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(num_cpus=3, log_to_driver=False, include_dashboard=False)
    yield
    ray.shutdown()


@dataclass(frozen=True)
class Ending:
    """Pictures that end the process that reads them: as the out-of-memory killer would, or by leaving it; or only as
    often as it takes to fill `once`."""

    frames: object
    how: str
    once: Path | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, indices):
        if self.once is not None and self.once.exists():
            return self.frames.read(indices)
        if self.once is not None:
            self.once.touch()
        if self.how == "killed":
            os._exit(137)
        if self.how == "exit":
            raise SystemExit(3)
        raise MemoryError("no memory for 7 GB of pictures")


class Unreadable:
    """A clip that cannot be unpacked where it is worked on."""

    def __reduce__(self):
        return _fail, ()


def _fail():
    raise RuntimeError("module 'theirs' is not installed here")


def clip(i, how=None, once=None):
    whole = example_clip(i, id=f"clip_{i}", source_video=f"clip_{i}")
    return whole if how is None else replace(whole, frames=Ending(whole.frames, how, once))


def tables(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.parquet"))}


def test_clips_that_end_their_workers_are_refused_and_the_others_are_as_in_one_process(tmp_path):
    bad = {1: "killed", 2: "exit", 4: "memory", 5: "killed"}
    clips = [clip(i, bad.get(i)) for i in range(8)]
    clips[6] = replace(clips[6], frames=Ending(clips[6].frames, "killed", tmp_path / "once"))  # a passing shortage
    report = annotate(clips, tmp_path / "ray", engine="ray", workers=2)
    annotate([clip(i) for i in range(8) if i not in bad], tmp_path / "local")
    assert report.done == 4
    reasons = dict(report.refused)
    assert set(reasons) == {f"made/clip_{i}" for i in bad}
    assert "clip 'clip_1': it ended its process 3 times" in reasons["made/clip_1"]
    assert "it ended its process 3 times" in reasons["made/clip_2"]
    assert "MemoryError: no memory for 7 GB" in reasons["made/clip_4"]
    assert tables(tmp_path / "ray") == tables(tmp_path / "local")


def test_a_clip_that_cannot_be_unpacked_costs_no_other(tmp_path):
    clips = [clip(0), replace(clip(1), notes={"x": Unreadable()}), clip(2)]
    report = annotate(clips, tmp_path, engine="ray", workers=1)
    assert report.done == 2
    assert "RuntimeError: module 'theirs' is not installed here" in report.refused[0][1]


NETWORK = AnnotateConfig(points=PointsConfig("cut3r", "theirs"), objects=ObjectsConfig(positions="points"))
"""A configuration with a network; `networked` says which."""


class Network:
    """The clip's own depth, as a network would give it. once: it fails where this file is not there, and makes it."""

    cached, metric, content = True, None, "1"

    def __init__(self, once=None):
        self.once = once

    def __call__(self, clip, frames):
        clip.frames.read(frames)
        if self.once is not None and clip.id == "clip_1" and not self.once.exists():
            self.once.touch()
            raise RuntimeError("CUDA error: an illegal memory access")
        return DepthPoints()(clip, frames)


@pytest.fixture
def networked(tmp_path, monkeypatch):
    """Puts a network in the place of the configuration's. Each process that loads it leaves a file in this folder."""

    def use(once=None) -> Path:
        loads = tmp_path / "loads"
        loads.mkdir()
        of = Estimators.of

        def init(self, out, config):
            (loads / f"points {os.getpid()}").open("x")  # an error where one process loads it twice
            self.out, self.config = Path(out), config
            self.estimators = engine.Estimators.of(config, points=Network(once), boxes=engine.Elsewhere())

        def here(config, points=None, boxes=None):
            return of(config, points=Network(once) if points is None else points, boxes=boxes)

        monkeypatch.setattr(engine._Points, "__init__", init)
        monkeypatch.setattr(Estimators, "of", here)  # of this process: the local engine's
        return loads

    return use


def deep(i, **how):
    """A clip that has depth images and whose objects are only in boxes, so that its point map is needed."""
    whole = film_clip(TRAIN[i], seconds=2.0)
    whole = replace(whole, id=f"clip_{i}", objects=tuple(replace(t, T_world_object=None) for t in whole.objects))
    return replace(whole, frames=Ending(whole.frames, **how)) if how else whole


def test_the_actors_with_the_network_are_replaced_too(tmp_path, networked):
    loads = networked()
    clips = [deep(i, **({"how": "killed"} if i == 1 else {})) for i in range(3)]
    report = annotate(clips, tmp_path / "ray", NETWORK, engine="ray", workers=1)
    assert [(name, "it ended its process 3 times" in why) for name, why in report.refused] == [
        ("tabletop/clip_1", True)
    ]
    assert len(list(loads.iterdir())) in (
        3,
        4,
    )  # one, and one for each that was ended, the last where it was needed
    annotate([deep(0), deep(2)], tmp_path / "local", NETWORK)
    assert tables(tmp_path / "ray") == tables(tmp_path / "local")


def test_a_network_is_loaded_once_where_it_runs_and_one_failure_costs_one_clip(tmp_path, networked):
    loads = networked(once=tmp_path / "failed")
    clips = [deep(i) for i in range(4)]
    report = annotate(clips, tmp_path / "ray", NETWORK, engine="ray", workers=2)
    ((name, why),) = report.refused
    assert name == "tabletop/clip_1" and "RuntimeError: CUDA error" in why
    assert len(list(loads.iterdir())) == 1
    annotate([clip for clip in clips if clip.id != "clip_1"], tmp_path / "local", NETWORK)
    assert tables(tmp_path / "ray") == tables(tmp_path / "local")
    again = annotate(clips, tmp_path / "ray", NETWORK, engine="ray", workers=2)
    assert again.refused == ()
    annotate(clips, tmp_path / "local", NETWORK)
    assert tables(tmp_path / "ray") == tables(tmp_path / "local")


@dataclass(frozen=True)
class Filling:
    """Pictures whose reading fills the disk of the process that reads them, as often as it takes to fill `once`."""

    frames: object
    once: Path

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, indices):
        if not self.once.exists():
            self.once.touch()
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        return self.frames.read(indices)


def test_a_full_disk_ends_the_run_and_the_next_one_finishes_it(tmp_path):
    clips = [clip(i) for i in range(6)]
    clips[2] = replace(clips[2], frames=Filling(clips[2].frames, tmp_path / "full"))
    with pytest.raises((OutputError, ValueError), match="cannot be written"):
        annotate(clips, tmp_path / "ray", engine="ray", workers=2)
    assert not (tmp_path / "ray" / "hand3d.json").exists()
    report = annotate(clips, tmp_path / "ray", engine="ray", workers=2)
    assert report.refused == () and report.done == 6
    annotate([clip(i) for i in range(6)], tmp_path / "local")
    assert tables(tmp_path / "ray") == tables(tmp_path / "local")


def test_a_folder_that_cannot_be_written_ends_the_run(tmp_path):
    (tmp_path / "work").write_text("a file")
    with pytest.raises((OutputError, ValueError), match="cannot be written"):
        annotate([clip(0)], tmp_path, engine="ray", workers=1)


@pytest.mark.parametrize("how", ["raises", "ends"])
def test_workers_that_do_not_start_end_the_run(tmp_path, monkeypatch, how):
    def init(self, out, config, network):
        if how == "ends":
            os._exit(1)
        raise ValueError("weights are not on this machine")

    monkeypatch.setattr(engine._Stages, "__init__", init)
    with pytest.raises(ValueError, match="not on this machine" if how == "raises" else "while they start"):
        annotate([clip(0), clip(1)], tmp_path, engine="ray", workers=2)


def test_workers_that_wait_for_a_machine_without_end_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "START_SECONDS", 2.0)

    @ray.remote(num_cpus=3)
    class Hog:
        def ready(self): ...

    hog = Hog.remote()
    ray.get(hog.ready.remote())
    with pytest.raises(ValueError, match="no worker for stages started in 2 s"):
        annotate([clip(0)], tmp_path, engine="ray", workers=1)
    ray.kill(hog)
