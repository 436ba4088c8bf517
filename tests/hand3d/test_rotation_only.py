"""What a clip can be asked whose camera's turns are known and whose places are not."""

from dataclasses import replace

import numpy as np
import pytest

from vipa.clips.example import example_clip
from vipa.hand3d.config import HandsConfig, RelationsConfig
from vipa.hand3d.measure.positions import from_poses
from vipa.hand3d.measure.relating import ClipGeometry, find_relations
from vipa.hand3d.measure.relations import CameraMovement
from vipa.hand3d.measure.visibility import Sight
from vipa.hand3d.measure.wrists import locate_hands
from vipa.hand3d.words.questions import answer_text


def geometry(poses):
    clip, frames = example_clip(), np.arange(0, 60, 10)
    sight = Sight(clip, frames.tolist())
    objects = tuple(from_poses(clip, sight, 0.0))
    hands = tuple(locate_hands(clip, sight, HandsConfig(joints=0)))
    whole = ClipGeometry(frames, clip.T_world_camera[frames], objects, hands)
    if poses is None:
        return clip, whole
    turns = whole.T_world_camera.copy()
    turns[:, :3, 3] = np.nan
    return replace(clip, T_world_camera=None), replace(whole, T_world_camera=turns)


def asked(clip, whole) -> dict[str, dict]:
    config = replace(RelationsConfig(), least_camera_rotation=0.01)
    found: dict[str, dict] = {}
    for f in find_relations(clip, whole, config):
        r = f.relation
        kind = f"camera {r.aspect}" if isinstance(r, CameraMovement) else r.category
        found.setdefault(kind, {})[f.frames, getattr(r, "object", None)] = r
    return found


def test_turns_and_places_of_objects_are_asked_as_with_whole_poses_and_movements_are_not():
    whole, turns = asked(*geometry(None)), asked(*geometry("rotations"))
    assert set(whole) >= {"spatial_relation", "hand_movement", "camera rotation", "camera translation"}
    assert set(turns) == {"spatial_relation", "camera rotation"}
    for key, relation in turns["camera rotation"].items():
        assert answer_text(relation) == answer_text(whole["camera rotation"][key])
    assert turns["spatial_relation"].keys() == whole["spatial_relation"].keys()
    for key, relation in turns["spatial_relation"].items():
        np.testing.assert_allclose(relation.displacement, whole["spatial_relation"][key].displacement)


def test_an_unknown_place_is_no_movement():
    nowhere = np.full(3, np.nan)
    turn = CameraMovement(np.array([0.0, 0.3, 0.0]), nowhere, "rotation")
    assert answer_text(turn).startswith("right, 17.189 degrees") and np.isnan(turn.distance)
    with pytest.raises(ValueError, match="translation must be three finite"):
        CameraMovement(np.array([0.0, 0.3, 0.0]), nowhere, "translation")
    with pytest.raises(ValueError, match="translation must be three finite"):
        CameraMovement(np.array([0.0, 0.3, 0.0]), np.array([0.0, np.nan, 0.0]), "rotation")
