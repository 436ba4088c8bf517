"""Annotation on a real Ray: a clip that ends its worker is refused, the others are as in one process."""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from vipa.clips.example import example_clip
from vipa.hand3d.config import AnnotateConfig, PointsConfig
from vipa.hand3d.estimators.base import Estimators
from vipa.hand3d.estimators.depth_points import DepthPoints
from vipa.hand3d.pipeline import engine
from vipa.hand3d.pipeline.annotate import annotate
from vipa.io.files import OutputError

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


def test_the_actors_with_the_network_are_replaced_too(tmp_path, monkeypatch):
    class Network:
        cached, metric, content = True, None, "1"

        def __call__(self, clip, frames):
            clip.frames.read(frames)
            return DepthPoints()(clip, frames)

    estimators = replace(Estimators.of(AnnotateConfig()), points=Network())
    monkeypatch.setattr(Estimators, "of", classmethod(lambda cls, config: estimators))
    monkeypatch.setattr(engine._Points, "__init__", _with_network(Network), raising=True)
    monkeypatch.setattr(engine._Stages, "__init__", _with_network(Network), raising=True)
    unposed = [replace(clip(i, "killed" if i == 1 else None), T_world_camera=None) for i in range(3)]
    report = annotate(unposed, tmp_path, AnnotateConfig(points=PointsConfig("theirs")), engine="ray", workers=1)
    reasons = dict(report.refused)
    assert "it ended its process 3 times" in reasons["made/clip_1"]
    assert not any("ended" in reason for clip_id, reason in reasons.items() if clip_id != "made/clip_1")


def _with_network(network):
    def init(self, out, config):
        self.out, self.config = Path(out), config
        self.estimators = replace(engine.Estimators.of(AnnotateConfig()), points=network())

    return init


def test_a_folder_that_cannot_be_written_ends_the_run(tmp_path):
    (tmp_path / "work").write_text("a file")
    with pytest.raises((OutputError, ValueError), match="cannot be written"):
        annotate([clip(0)], tmp_path, engine="ray", workers=1)


@pytest.mark.parametrize("how", ["raises", "ends"])
def test_workers_that_do_not_start_end_the_run(tmp_path, monkeypatch, how):
    def init(self, out, config):
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
