import shutil
from pathlib import Path

import numpy as np
import pytest

from vipa.clips import Clip, ClipError
from vipa.clips.sources import load_source, source_names
from vipa.geometry import project
from vipa.worlds.fixtures import fixture_names, write_fixture

NAMES = fixture_names()

pytestmark = pytest.mark.usefixtures("no_tracker")  # nothing is found that the files do not say


def test_every_source_of_a_data_set_has_a_fixture():
    assert set(source_names()) >= set(NAMES)
    assert set(NAMES) == set(source_names()) - {"tabletop"}


@pytest.mark.parametrize("name", NAMES)
def test_reading_a_fixture_gives_the_truth_it_was_written_from(name, fixture_of, read):
    fixture = fixture_of(name)
    got = read(name, fixture)
    assert set(got) == set(fixture.truth) | set(fixture.broken)
    for clip_id, truth in fixture.truth.items():
        clip = got[clip_id]
        assert isinstance(clip, Clip), clip
        assert len(clip) == len(truth)
        assert clip.timestamps == pytest.approx(truth.timestamps, abs=1e-3)
        same_hands(clip, truth)
        same_camera(clip, truth)
        same_pictures(clip, truth)
        assert clip.split == truth.split
        assert [(t.text, t.hand) for t in clip.texts] == [(t.text, t.hand) for t in truth.texts]
        for mine, theirs in zip(clip.texts, truth.texts):
            assert (mine.start, mine.end) == pytest.approx((theirs.start, theirs.end))
        same_objects(clip, truth)


def same_hands(clip: Clip, truth: Clip) -> None:
    assert {h.side for h in clip.hands} == {h.side for h in truth.hands}
    for hand in truth.hands:
        mine = clip.hand(hand.side)
        known = hand.confidence > 0
        assert np.allclose(mine.confidence, hand.confidence, atol=1e-6)
        assert np.abs(mine.joints_camera - hand.joints_camera)[known].max() < 1e-4
        assert np.isnan(mine.joints_camera[~known]).all()
        ahead = known & (hand.joints_camera[..., 2] > 0.05)
        pixels = project(mine.joints_camera[ahead], clip.intrinsics.matrix)
        assert np.abs(pixels - project(hand.joints_camera[ahead], truth.intrinsics.matrix)).max() < 0.5
        if hand.mano is not None:
            rows = known.any(1)
            assert mine.mano is not None
            assert np.abs(mine.mano.pose - hand.mano.pose)[rows].max() < 1e-6
            difference = mine.mano.global_orientation_camera - hand.mano.global_orientation_camera
            assert np.abs(difference)[rows].max() < 1e-6
            assert np.abs(mine.mano.wrist_camera - hand.mano.wrist_camera)[rows].max() < 1e-6
            assert np.allclose(mine.mano.betas, hand.mano.betas)


def same_camera(clip: Clip, truth: Clip) -> None:
    assert (clip.T_world_camera is None) == (truth.T_world_camera is None)
    if truth.T_world_camera is not None:
        assert np.abs(clip.T_world_camera - truth.T_world_camera).max() < 1e-4
    K, own = clip.intrinsics, truth.intrinsics
    assert (K.width, K.height, K.origin) == (own.width, own.height, own.origin)
    assert np.allclose(K.matrix, own.matrix, atol=1e-3)


def same_pictures(clip: Clip, truth: Clip) -> None:
    last = [len(clip) - 1, 0]
    images, own = clip.frames.read(last), truth.frames.read(last)
    assert images.shape == own.shape
    assert images.dtype == np.uint8
    assert np.abs(images.astype(int) - own).mean() < 3  # compression, and resampling through a lens
    if truth.depth is not None:
        depth, exact = clip.depth.read(last), truth.depth.read(last)
        if clip.source == "fpha":  # whole millimetres of a coarser camera, carried over
            assert np.nanmedian(np.abs(depth - exact)) < 6e-4
        else:
            assert np.array_equal(np.isnan(depth), np.isnan(exact))
            assert np.nanmax(np.abs(depth - exact)) < 1e-4


def same_objects(clip: Clip, truth: Clip) -> None:
    mine = {o.name: o for o in clip.objects or ()}
    for thing in truth.objects or ():
        assert thing.name in mine
        assert thing.centre is None or mine[thing.name].centre is not None
        if thing.centre is not None and mine[thing.name].surface is not None:
            points = mine[thing.name].surface - thing.centre
            assert (np.abs(points) < thing.extent / 2 + 1e-6).all()
            assert np.allclose(np.ptp(points, axis=0), thing.extent, atol=0.015)
        for field in ("T_world_object", "boxes", "extent", "centre"):
            value, own = getattr(mine[thing.name], field), getattr(thing, field)
            if value is not None and own is not None:
                assert np.nanmax(np.abs(value - own)) < (0.01 if field == "boxes" else 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_broken_sequence_is_one_reason_in_one_line(name, fixture_of, read):
    fixture = fixture_of(name)
    got = read(name, fixture)
    for clip_id, reason in fixture.broken.items():
        error = got[clip_id]
        assert isinstance(error, ClipError)
        assert reason in error.reason
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", NAMES)
def test_a_symlinked_root_with_a_foreign_name_reads_the_same(name, fixture_of, read, tmp_path):
    fixture = fixture_of(name)
    link = tmp_path / "données 手"
    link.symlink_to(fixture.root, target_is_directory=True)
    got = read(name, fixture, link)
    if name == "lerobot":  # names its clips after the folder itself
        assert set(got) == set(fixture.truth) | set(fixture.broken)
    for clip_id in fixture.truth:
        assert isinstance(got[clip_id], Clip)
        assert len(got[clip_id].frames.read([0])) == 1


NPY_HEADER = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
NPY_OF_AN_OBJECT = b"\x93NUMPY\x01\x00v\x00" + NPY_HEADER.ljust(117) + b"\n"
HOSTILE = b"cposix\nmkdir\n(S'executed'\ntR."


def one_of_each_kind(root: Path) -> list[Path]:
    kinds = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        kinds.setdefault((path.suffix, path.parent.name.strip("0123456789")), path.relative_to(root))
    return list(kinds.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("harm", ["missing", "hostile", "cut"])
def test_no_harmed_file_stops_a_source_or_is_executed(name, harm, fixture_of, tmp_path, monkeypatch):
    fixture = fixture_of(name)
    root = tmp_path / "copy"
    shutil.copytree(fixture.root, root)
    monkeypatch.chdir(tmp_path)
    for path in one_of_each_kind(fixture.root):
        whole = (root / path).read_bytes()
        if harm == "missing":
            (root / path).unlink()
        else:
            header = NPY_OF_AN_OBJECT if path.suffix == ".npy" else b""
            (root / path).write_bytes(header + HOSTILE if harm == "hostile" else whole[: len(whole) // 2])
        try:
            for clip in load_source(name).read_clips(root, fixture.options):
                assert isinstance(clip, Clip | ClipError)
                assert "\n" not in str(clip) if isinstance(clip, ClipError) else len(clip) > 0
        except (ValueError, FileNotFoundError):  # of the whole root: said at once
            pass
        assert not Path("executed").exists(), path
        (root / path).write_bytes(whole)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_and_a_missing_root_are_said_at_once(name, tmp_path):
    with pytest.raises(ValueError, match="nothing of source"):
        list(load_source(name).read_clips(tmp_path))
    with pytest.raises(FileNotFoundError):
        list(load_source(name).read_clips(tmp_path / "nowhere"))


def test_sources_that_need_mano_say_how_to_get_it(fixture_of, tmp_path, monkeypatch):
    monkeypatch.setenv("VIPA_MANO", str(tmp_path))
    for name in ("arctic", "hoi4d", "taco", "oakink2"):
        fixture = fixture_of(name)
        out = list(load_source(name).read_clips(fixture.root))
        assert out
        assert all(isinstance(c, ClipError) for c in out)
        assert any("vipa import-weights mano" in c.reason for c in out)


def test_sources_with_joints_of_their_own_do_without_mano(fixture_of, tmp_path, monkeypatch):
    monkeypatch.setenv("VIPA_MANO", str(tmp_path))
    for name in ("h2o", "dexycb", "egodex", "fpha"):
        fixture = fixture_of(name)
        clips = [c for c in load_source(name).read_clips(fixture.root) if isinstance(c, Clip)]
        assert [c.id for c in clips] == list(fixture.truth)
        assert all(h.mano is None for c in clips for h in c.hands)


def test_an_unknown_fixture_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="unknown; known: arctic"):
        write_fixture("nothing", tmp_path)
