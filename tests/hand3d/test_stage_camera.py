"""What the stage `camera` makes of a clip whose field of view becomes known."""

from dataclasses import replace

import numpy as np

from vipa.clips.example import example_clip
from vipa.clips.field_of_view import given
from vipa.geometry import project
from vipa.hand3d.pipeline import stage_camera


def test_hands_placed_by_size_stay_on_their_pixels_under_another_field_of_view():
    clip = example_clip()
    own = replace(clip, notes={"hands": "tracked by mediapipe"})
    view = given(80.0)
    seen, kept = stage_camera.with_view(own, view), stage_camera.with_view(clip, view)
    longer = seen.intrinsics.fx / clip.intrinsics.fx
    for before, after, same in zip(clip.hands, seen.hands, kept.hands):
        np.testing.assert_allclose(
            project(after.joints_camera, seen.intrinsics.matrix),
            project(before.joints_camera, clip.intrinsics.matrix),
            atol=1e-6,
        )
        np.testing.assert_allclose(after.joints_camera[:, 0, 2], longer * before.joints_camera[:, 0, 2])
        np.testing.assert_array_equal(same.joints_camera, before.joints_camera)
