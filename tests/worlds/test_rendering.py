import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from vipa.geometry import Intrinsics, invert, project, transform
from vipa.worlds.rendering import Capsule, Renderer
from vipa.worlds.scene import build_spec, look_at, sample_scene
from vipa.worlds.stills import still

CAMERA = look_at(np.array([0.1, -0.5, 0.4]), np.array([0.0, 0.0, 0.05]), roll=0.2)
ODD = Intrinsics(90.0, 120.0, 50.0, 40.0, 120, 80, "calibrated")  # nothing centred or square


def prepared(spec: mujoco.MjSpec) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def rays(c: Intrinsics) -> np.ndarray:
    """Camera-frame rays (H, W, 3) with z = 1."""
    u, v = np.meshgrid(np.arange(c.width), np.arange(c.height))
    return np.stack([(u - c.cx) / c.fx, (v - c.cy) / c.fy, np.ones(u.shape)], -1)


def test_depth_of_a_plane_and_a_sphere_equals_ray_casting():
    centre, radius = np.array([0.05, 0.03, 0.08]), 0.06
    spec = mujoco.MjSpec()
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[5, 5, 0.05], pos=[0, 0, -0.05])
    ball = spec.worldbody.add_body(name="ball", pos=centre)
    ball.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[radius, 0, 0])
    spec.visual.quality.numslices, spec.visual.quality.numstacks = 96, 48
    model, data = prepared(spec)
    image = Renderer(model, ODD.width, ODD.height).render(data, CAMERA, ODD, segmentation=True)

    d, eye = rays(ODD) @ CAMERA[:3, :3].T, CAMERA[:3, 3]
    with np.errstate(invalid="ignore", divide="ignore"):
        plane = np.where(d[..., 2] < 0, -eye[2] / d[..., 2], np.inf)
        a, b = (d * d).sum(-1), ((eye - centre) * d).sum(-1)
        root = b * b - a * (((eye - centre) ** 2).sum() - radius**2)
        ball = np.where(root > 0, (-b - np.sqrt(root)) / a, np.inf)
    expected = np.minimum(plane, ball)
    near = expected < 3
    error = np.abs(image.depth - expected)[near]
    assert np.quantile(error, 0.99) < 2e-3  # the silhouette's pixels excepted
    assert np.median(error) < 1e-4
    hit = ball < plane
    assert (image.bodies == 1)[near].sum() == pytest.approx(hit[near].sum(), rel=0.03)
    v, u = np.nonzero(image.bodies == 1)
    expected_v, expected_u = np.nonzero(hit)
    np.testing.assert_allclose([u.mean(), v.mean()], [expected_u.mean(), expected_v.mean()], atol=0.15)


def test_a_capsule_is_drawn_at_its_projection_with_its_id_and_colour():
    model, data = prepared(build_spec(sample_scene(0)))
    at = np.array([0.02, -0.1, 0.2])
    capsule = Capsule(at - [0.01, 0, 0], at + np.array([0.01, 0, 0]), 0.01, (0.9, 0.1, 0.1), -7)
    image = Renderer(model, ODD.width, ODD.height).render(data, CAMERA, ODD, [capsule], segmentation=True)
    v, u = np.nonzero(image.bodies == -7)
    at_pixel = project(transform(invert(CAMERA), at[None]), ODD.matrix)[0]
    np.testing.assert_allclose([u.mean(), v.mean()], at_pixel, atol=0.6)
    r, g, _ = image.rgb[image.bodies == -7].mean(0)
    assert r > 2 * g


def test_a_scene_looks_the_same_whatever_was_drawn_before_it():
    c = sample_scene(1).intrinsics(64, 64)
    models = [prepared(build_spec(sample_scene(seed))) for seed in range(4)]
    renderers = [Renderer(model, 64, 64) for model, _ in models]
    first = [r.render(d, CAMERA, c).rgb for r, (_, d) in zip(renderers, models)]
    again = [r.render(d, CAMERA, c).rgb for r, (_, d) in reversed(list(zip(renderers, models)))]
    large = Renderer(models[0][0], 200, 200).render(models[0][1], CAMERA, sample_scene(1).intrinsics(200, 200))
    for a, b in zip(first, reversed(again)):
        np.testing.assert_array_equal(a, b)
    assert large.rgb.shape == (200, 200, 3)
    assert large.rgb[-1].std() + large.rgb[0].std() > 0  # the whole picture was drawn
    np.testing.assert_array_equal(renderers[0].render(models[0][1], CAMERA, c).rgb, first[0])


def test_a_model_with_other_textures_is_drawn_too_and_leaves_the_next_scene_unharmed():
    c = sample_scene(1).intrinsics(64, 64)
    model, data = prepared(build_spec(sample_scene(1)))
    renderer = Renderer(model, 64, 64)
    before = renderer.render(data, CAMERA, c).rgb
    spec = mujoco.MjSpec()
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 0.1], rgba=[0, 1, 0, 1])
    spec.worldbody.add_light(pos=[0, 0, 2], dir=[0, 0, -1])
    other, other_data = prepared(spec)
    green = Renderer(other, 64, 64).render(other_data, CAMERA, c).rgb[40, 32]
    assert green[1] > 50
    assert green[0] < 20
    np.testing.assert_array_equal(renderer.render(data, CAMERA, c).rgb, before)


def test_intrinsics_of_another_size_are_refused():
    model, data = prepared(build_spec(sample_scene(0)))
    with pytest.raises(ValueError, match=r"120 x 80.*64 x 64"):
        Renderer(model, 64, 64).render(data, CAMERA, ODD)


def test_many_scenes_do_not_fill_the_memory():
    code = """
import resource
from vipa.worlds.stills import still
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for seed in range(30): still(seed, 32)
before = peak()
for seed in range(30, 150): still(seed, 32)
print(peak() - before)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(out.stdout) < 8.0  # MB over 120 scenes


def test_without_any_opengl_the_error_is_one_line_that_says_what_to_install():
    code = """
import sys
sys.modules["mujoco.egl"] = sys.modules["mujoco.osmesa"] = None
from vipa.worlds.stills import still
try:
    still(0, 32)
except RuntimeError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.count("\n") == 1
    assert "apt-get install" in out.stdout


def test_osmesa_takes_over_where_egl_does_not_work():
    code = """
import sys
sys.modules["mujoco.egl"] = None
from vipa.worlds.stills import still
print(still(0, 32).rgb.std() > 5)
"""
    environment = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    if "does not work here" in out.stderr:
        pytest.skip("OSMesa is not installed")
    assert out.stdout.strip() == "True", out.stderr


def test_a_forked_process_draws_the_same():
    code = """
import multiprocessing
from vipa.worlds.stills import still
def total(seed): return int(still(seed, 48).rgb.sum())
if __name__ == "__main__":
    here = [total(s) for s in range(4)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(total, range(4)) == here, total(3) == here[3])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.split() == ["True", "True"]
    assert out.stderr == ""  # nothing is complained about at the end either


def test_a_picture_that_opengl_did_not_write_is_an_error(monkeypatch):
    read, calls = mujoco.mjr_readPixels, []

    def sometimes(rgb, depth, rectangle, context):
        calls.append(1)
        if len(calls) in missing:
            return None
        return read(rgb, depth, rectangle, context)

    monkeypatch.setattr(mujoco, "mjr_readPixels", sometimes)
    missing = {1}
    still(7, size=56)
    assert len(calls) == 3, "once more for the picture that was missing, and the segmentation"
    calls.clear()
    missing = {1, 2, 3}
    with pytest.raises(OSError, match="no picture in 3 tries"):
        still(7, size=56)
