"""A stage's file counts only under what it was made of: content, not names and places."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from vipa.clips.clip import ObjectTrack
from vipa.clips.depth import DepthImages
from vipa.clips.example import example_clip
from vipa.clips.reading import DepthSubset
from vipa.clips.video import FrameSubset, ImageFrames
from vipa.hand3d.config import AnnotateConfig, EndpointConfig, ObjectsConfig, PointsConfig, WordsConfig
from vipa.hand3d.estimators.base import Estimators
from vipa.hand3d.pipeline.annotate import annotate
from vipa.hand3d.pipeline.table import stage_keys
from vipa.io.hashing import content_of
from vipa.nano.shipped import NANO
from vipa.worlds.film import film_clip
from vipa.worlds.seeds import TRAIN


def keys(clip, config=AnnotateConfig()) -> dict[str, str]:  # noqa: B008 (frozen)
    return stage_keys(clip, config, Estimators.of(config))


def test_retrained_weights_in_the_same_folder_are_noticed_and_moved_ones_are_the_same(tmp_path):
    clip = replace(film_clip(TRAIN[0]), split="train")
    shutil.copytree(NANO / "foundation" / "spatial", tmp_path / "here")

    def computed(folder: str) -> set[str]:
        points = PointsConfig("cut3r", str(tmp_path / folder))
        config = AnnotateConfig(points=points, objects=ObjectsConfig(positions="points"))
        report = annotate([clip], tmp_path / "out", config)
        assert report.done == 1
        return set(report.stage_seconds)

    assert {"points", "scale", "objects"} <= computed("here")
    assert computed("here") == set()
    (tmp_path / "here").rename(tmp_path / "there")
    assert computed("there") == set()
    file = tmp_path / "there" / "model.safetensors"
    tensors, before = load_file(file), os.stat(file)
    name = next(n for n in tensors if tensors[n].ndim > 1)
    save_file(tensors | {name: tensors[name] * np.float16(1.01)}, file, metadata={"format": "pt"})
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # same name, size and time
    assert {"points", "scale", "objects"} <= computed("there")
    settings = tmp_path / "there" / "config.json"
    settings.write_text(settings.read_text().replace('"unit_error": 0.065', '"unit_error": 0.2'))
    assert {"points", "scale", "objects"} <= computed("there")


def test_an_endpoint_counts_where_it_is_asked_and_by_its_model_not_by_its_address():
    clip = example_clip()

    def words(endpoint, texts="endpoint"):
        return keys(clip, AnnotateConfig(words=WordsConfig(texts), endpoint=endpoint))["words"]

    one = EndpointConfig("http://127.0.0.1:1/v1", "small")
    assert words(one) == words(replace(one, url="http://127.0.0.1:2/v1"))
    assert words(one) != words(replace(one, model="large"))
    assert words(one) != words(replace(one, longer_side=64))
    assert words(one, "auto") == words(replace(one, model="large"), "auto") == keys(clip)["words"]


def test_all_that_a_clip_holds_counts_but_its_notes():
    clip = example_clip()
    track = clip.objects[0]
    same = keys(clip)
    assert keys(example_clip()) == keys(replace(clip, notes={"texts": "from names"})) == same

    def other(**changes) -> None:
        changed = keys(replace(clip, **changes))
        assert all(changed[stage] != same[stage] for stage in same), changes

    def other_track(**changes) -> None:
        other(objects=(replace(track, **changes), *clip.objects[1:]))

    other_track(extent=np.array([0.1, 0.1, 0.1]))
    other_track(centre=np.array([0.0, 0.0, 0.05]))
    other_track(surface=np.zeros((4, 3)))
    other_track(name="jar")
    other(objects=(*clip.objects, ObjectTrack("jar")))
    other(texts=())
    other(intrinsics=replace(clip.intrinsics, fx=clip.intrinsics.fx + 1))
    other(frames=replace(clip.frames, images=255 - clip.frames.images))


def test_changed_pictures_and_depth_images_of_the_same_name_are_noticed(tmp_path):
    clip = example_clip()
    n, paths, depths = len(clip), [], []
    for i, image in enumerate(clip.frames.read(range(n))):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
        depths.append(tmp_path / f"{i}.depth.png")
        Image.fromarray(np.full(image.shape[:2], 500, np.uint16)).save(depths[-1])
    size = (clip.intrinsics.width, clip.intrinsics.height)

    def now():
        every = tuple(range(n))
        frames = FrameSubset(ImageFrames(tuple(paths)), every)
        return keys(replace(clip, frames=frames, depth=DepthSubset(DepthImages(tuple(depths), 1e-3, size), every)))

    before = now()
    assert now() == before
    Image.fromarray(np.full(size[::-1], 600, np.uint16)).save(depths[7])
    after = now()
    assert after["scale"] != before["scale"]
    Image.fromarray(np.zeros((*size[::-1], 3), np.uint8)).save(paths[7])
    assert now()["frames"] != after["frames"]


@pytest.mark.parametrize("other", [b"another", b"samesize"])
def test_a_file_counts_by_what_is_in_it(tmp_path, other):
    (tmp_path / "a").write_bytes(b"original")
    (tmp_path / "b").write_bytes(b"original")
    assert content_of(tmp_path / "a") == content_of(tmp_path / "b")
    (tmp_path / "b").write_bytes(other)
    assert content_of(tmp_path / "a") != content_of(tmp_path / "b")
    assert content_of(tmp_path / "none") == content_of(tmp_path / "nothing") != content_of(tmp_path / "a")


def test_rows_and_maps_do_not_run_into_each_other():
    different = [["ab", "c"], ["a", "bc"], [["ab"], "c"], ("ab", None, "c"), {"ab": "c"}, {"a": "bc"}, 1, 1.0, "1"]
    different += [True, np.ones(2), np.ones((2, 1)), np.ones(2, np.float32)]
    assert len({content_of(value) for value in different}) == len(different)
