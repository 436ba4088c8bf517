import itertools

import mujoco
import numpy as np
import pytest

from vipa.worlds import seeds
from vipa.worlds.objects import COLOURS, KINDS, SIZES, SceneObject, _mesh, sample_size
from vipa.worlds.scene import REACH, build_spec, sample_scene

MESHES = [k for k in KINDS if k not in ("box", "ball", "book")]


def test_splits_share_no_seed():
    for (_, a), (_, b) in itertools.combinations(seeds.SPLITS.items(), 2):
        assert a.stop <= b.start or b.stop <= a.start


def test_every_seed_of_a_split_is_found_in_it_and_others_are_refused():
    for name in seeds.SPLITS:
        s = seeds.seeds_of(name)
        assert seeds.split_of(s.start) == seeds.split_of(s.stop - 1) == name
    for wrong in (-1, seeds.TEST.stop):
        with pytest.raises(ValueError, match="belongs to no split"):
            seeds.split_of(wrong)
    with pytest.raises(ValueError, match="dev.*unknown"):
        seeds.seeds_of("dev")


def test_there_are_at_least_eight_kinds_and_eight_colours():
    assert len(KINDS) >= 8
    assert len(COLOURS) >= 8


def test_all_kinds_and_colours_occur_and_three_to_six_objects():
    scenes = [sample_scene(s) for s in range(200)]
    assert {o.kind for s in scenes for o in s.objects} == set(KINDS)
    assert {o.colour for s in scenes for o in s.objects} == set(COLOURS)
    assert {len(s.objects) for s in scenes} == {3, 4, 5, 6}


@pytest.mark.parametrize("seed", range(40))
def test_objects_stand_on_the_table_apart_from_each_other_with_names_of_their_own(seed):
    scene = sample_scene(seed)
    assert len({o.name for o in scene.objects}) == len(scene.objects)
    for o in scene.objects:
        assert o.position[2] == pytest.approx(o.height / 2)
        assert (o.position[:2] >= REACH[0]).all()
        assert (o.position[:2] <= REACH[1]).all()
    for a, b in itertools.combinations(scene.objects, 2):
        assert np.hypot(*(a.position - b.position)[:2]) > a.radius + b.radius


def test_most_scenes_hold_a_distractor_of_the_same_kind_or_colour():
    scenes = [sample_scene(s) for s in range(100)]
    shared = [
        any(a.kind == b.kind or a.colour == b.colour for a, b in itertools.combinations(s.objects, 2))
        for s in scenes
    ]
    assert np.mean(shared) > 0.8


def test_required_kinds_come_first_and_too_many_are_refused():
    scene = sample_scene(3, required=("bowl", "cup"))
    assert [o.kind for o in scene.objects[:2]] == ["bowl", "cup"]
    with pytest.raises(ValueError, match="required"):
        sample_scene(3, required=("bowl",) * 4, count=(1, 3))


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    a, b, c = sample_scene(7), sample_scene(7), sample_scene(8)
    assert [o.name for o in a.objects] == [o.name for o in b.objects]
    np.testing.assert_array_equal(a.T_world_camera, b.T_world_camera)
    assert np.abs(a.T_world_camera - c.T_world_camera).max() > 1e-3


@pytest.mark.parametrize("kind", MESHES)
def test_meshes_fill_the_unit_box_with_faces_outward(kind):
    vertices, faces = _mesh(kind)
    np.testing.assert_allclose(vertices.min(0), -0.5, atol=0.03)
    np.testing.assert_allclose(vertices.max(0), 0.5, atol=0.03)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    volume = np.einsum("ni,ni->", a, np.cross(b, c)) / 6  # positive only if faces turn outward
    assert 0.05 < volume < 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_dynamic_object_rests_where_it_was_put(kind):
    rng = np.random.default_rng(1)
    size = sample_size(kind, rng)
    base = sample_scene(0)
    thing = SceneObject(
        kind, "red", f"red {kind}", COLOURS["red"], size, np.array([0, 0, size[2] / 2]), 0.7, "plain"
    )
    scene = type(base)(**{**base.__dict__, "objects": (thing,)})
    model = build_spec(scene, dynamic=True).compile()
    data = mujoco.MjData(model)
    for _ in range(500):  # one second
        mujoco.mj_step(model, data)
    np.testing.assert_allclose(data.body("object_0").xpos, thing.position, atol=0.006)
    assert 0.005 < model.body("object_0").mass[0] < 1.0


def test_sizes_stay_in_their_range():
    rng = np.random.default_rng(0)
    for kind in KINDS:
        size = sample_size(kind, rng)
        assert (size >= np.array(SIZES[kind][0]) - 1e-9).all()
        assert (size <= np.array(SIZES[kind][1]) + 1e-9).all()
