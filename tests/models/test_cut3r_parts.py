"""CUT3R's borders: official checkpoints, pictures and cameras, geometry read from its outputs, losses."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from vipa_kit import assert_same_outputs, assert_same_weights

from vipa.geometry import Intrinsics, matrix_from_axis_angle, project, quaternion_wxyz_from_matrix, unproject_depth
from vipa.models.cut3r import (
    Cut3rConfig,
    Cut3rModel,
    Cut3rOutput,
    Cut3rProcessor,
    camera_trajectory,
    cut3r_224_config,
    cut3r_512_config,
    cut3r_loss,
    estimate_focal,
    estimated_intrinsics,
    fused_cloud,
    import_cut3r,
    write_ply,
)
from vipa.models.cut3r.heads import points_and_confidence
from vipa.models.cut3r.importing import config_of
from vipa.models.cut3r.layers import rope_at, rotate
from vipa.models.cut3r.losses import ALPHA, confident_regression, quaternion_wxyz
from vipa.nano.sizes import nano_cut3r_config

CONSTRUCTOR = (
    "ARCroco3DStereo(ARCroco3DStereoConfig(state_size=8, img_size=(64, 64), head_type='linear', "
    "enc_num_heads=2, dec_num_heads=2, state_dec_num_heads=4, evil=__import__('os').system('false')))"
)


def tiny(head: str = "linear", **changes: int) -> Cut3rConfig:
    sizes = {
        "encoder_width": 32,
        "encoder_depth": 1,
        "encoder_heads": 2,
        "decoder_width": 32,
        "decoder_depth": 4,
        "decoder_heads": 2,
        "state_heads": 4,
        "state_size": 8,
        "memory_size": 4,
        "image_size": 64,
    }
    return Cut3rConfig(head=head, **(sizes | changes))


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[Path, Cut3rModel]:
    torch.manual_seed(0)
    model = Cut3rModel(tiny()).eval()
    path = tmp_path / "official.pth"
    torch.save({"args": argparse.Namespace(model=CONSTRUCTOR, lr=1e-4), "model": model.state_dict()}, path)
    return path, model


# Checkpoints


def test_an_imported_checkpoint_says_the_same_as_the_network_it_came_from(checkpoint, tmp_path):
    path, model = checkpoint
    loaded = Cut3rModel.from_pretrained(import_cut3r(path, tmp_path / "out")).eval()
    images = torch.rand(1, 2, 3, 32, 48) * 2 - 1
    with torch.no_grad():
        assert_same_outputs(loaded(images).points_world, model(images).points_world)
    assert_same_weights(loaded, model)
    assert loaded.config.state_heads == 4
    assert Cut3rProcessor.from_pretrained(tmp_path / "out").size == 64


@pytest.mark.parametrize("config", [cut3r_512_config(), cut3r_224_config()], ids=["512", "224"])
def test_released_sizes_are_read_from_shapes_and_released_head_counts(config):
    with torch.device("meta"):
        state = Cut3rModel(config).state_dict()
    read, want = config_of(state, "", Path("x")).to_dict(), config.to_dict()
    assert read == want


def spoiled(path: Path, change) -> Path:
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(path, weights_only=True)
    change(content["model"])
    torch.save(content, path)
    return path


def rename(state):
    state["some_other.weight"] = state.pop("enc_norm.weight")
    state["decoder_embed.bias"] = torch.zeros(5)


def test_missing_extra_and_misshapen_tensors_are_all_named(checkpoint, tmp_path):
    with pytest.raises(ValueError) as error:
        import_cut3r(spoiled(checkpoint[0], rename), tmp_path / "out")
    text = str(error.value)
    assert "1 missing: enc_norm.weight" in text
    assert "1 not known: some_other.weight" in text
    assert "decoder_embed.bias is (5,), needs (32,)" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_a_truncated_file_is_an_error(checkpoint, tmp_path, kept):
    path, _ = checkpoint
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with pytest.raises(ValueError, match=r"truncated|damaged"):
        import_cut3r(path, tmp_path / "out")


def test_another_models_weights_are_an_error(tmp_path):
    torch.save({"model": {"conv1.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"not a CUT3R checkpoint.*conv1\.weight"):
        import_cut3r(tmp_path / "other.pth", tmp_path / "out")
    with pytest.raises(ValueError, match="no such file"):
        import_cut3r(tmp_path / "absent.pth", tmp_path / "out")


class Malicious:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("where", ["args", "model"])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path, where):
    target, path = tmp_path / "touched", tmp_path / "evil.pth"
    torch.save({"model": {}, "args": None, where: Malicious(target)}, path)
    with pytest.raises(ValueError, match="besides weights"):
        import_cut3r(path, tmp_path / "out")
    assert not target.exists()


# Pictures


@pytest.mark.parametrize(
    ("mode", "size", "given", "made"),
    [
        ("long", 512, (1024, 768), (512, 384)),
        ("long", 512, (640, 480), (512, 384)),
        ("long", 512, (768, 1024), (384, 512)),
        ("long", 512, (1920, 1080), (512, 288)),
        ("long", 512, (300, 300), (512, 384)),
        ("short", 224, (640, 480), (224, 224)),
        ("short", 224, (480, 641), (224, 224)),
        ("square", 432, (640, 480), (432, 432)),
        ("square", 448, (100, 333), (448, 448)),
    ],
)
def test_sizes_are_those_of_the_released_loaders(mode, size, given, made):
    picture = Image.new("RGB", given)
    assert Cut3rProcessor(mode, size)([picture])["images"].shape == (1, 1, 3, made[1], made[0])


@pytest.mark.parametrize(("mode", "size"), [("long", 512), ("short", 224), ("square", 432)])
@pytest.mark.parametrize("given", [(1280, 720), (600, 800), (641, 479)])
def test_the_adjusted_camera_sees_a_point_where_the_picture_shows_it(mode, size, given):
    """A blurred white dot at a point's projection lands, after processing, on the adjusted projection."""
    width, height = given
    camera = Intrinsics(0.9 * width, 0.9 * width, width * 0.48, height * 0.53, width, height, "calibrated")
    point = np.array([[0.05, -0.04, 1.0]])
    u, v = project(point, camera.matrix)[0]
    y, x = np.mgrid[:height, :width]
    dot = np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * (width / 60) ** 2))
    frame = np.repeat((255 * dot).astype(np.uint8)[..., None], 3, 2)
    out = Cut3rProcessor(mode, size)([frame], camera)
    adjusted, image = out["intrinsics"][0], out["images"][0, 0, 0].numpy() + 1
    assert (adjusted.height, adjusted.width) == image.shape
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    centre = np.array([(x * image).sum(), (y * image).sum()]) / image.sum()
    assert np.abs(centre - project(point, adjusted.matrix)[0]).max() < 0.1


def test_values_span_minus_one_to_one():
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[:, 32:] = 255
    images = Cut3rProcessor("square", 64)([frame, frame])["images"]
    assert images.shape == (1, 2, 3, 64, 64)
    assert (images.min(), images.max()) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ([], "empty clip"),
        ([[]], "empty clip"),
        ([np.zeros((32, 32, 3), np.float32)], "uint8"),
        ([np.zeros((3, 32, 32), np.uint8)], "uint8 RGB"),
        ([np.zeros((32, 32, 3), np.uint8), np.zeros((32, 48, 3), np.uint8)], "different sizes"),
        ([[Image.new("RGB", (32, 32))], [Image.new("RGB", (32, 32))] * 2], "equally long"),
    ],
)
def test_bad_clips_are_refused(clip, message):
    with pytest.raises(ValueError, match=message):
        Cut3rProcessor("square", 32)(clip)


# Geometry


def depth_points(focal: float, noise: float = 0.0) -> torch.Tensor:
    rng = np.random.default_rng(0)
    depth = 1 + rng.random((2, 48, 64))
    points = unproject_depth(depth, np.array([[focal, 0, 31.5], [0, focal, 23.5], [0, 0, 1.0]]))
    wrong = rng.random(depth.shape) < noise
    points[wrong] = rng.normal(size=(wrong.sum(), 3)) * 0.3 + [0, 0, 1.5]
    return torch.from_numpy(points).float()


def test_focal_is_found_exactly_and_despite_wrong_points():
    assert estimate_focal(depth_points(70.0)) == pytest.approx(torch.full((2,), 70.0), abs=1e-3)
    assert estimate_focal(depth_points(70.0, noise=0.05)) == pytest.approx(torch.full((2,), 70.0), abs=0.5)
    camera = estimated_intrinsics(depth_points(70.0))
    assert (camera.origin, camera.cx, camera.cy) == ("estimated", 31.5, 23.5)


def test_focal_of_points_behind_the_camera_is_an_error():
    with pytest.raises(ValueError, match="in front"):
        estimate_focal(-depth_points(70.0))


def test_trajectory_maps_each_camera_to_the_first():
    R = matrix_from_axis_angle(np.array([0.1, -0.5, 0.2]))
    pose = torch.tensor([[[1.0, 2, 3, *quaternion_wxyz_from_matrix(R)]]])
    T = camera_trajectory(pose)
    np.testing.assert_allclose(T[0, 0, :3, :3], R, atol=1e-6)
    np.testing.assert_allclose(T[0, 0, :3, 3], [1, 2, 3])


def test_cloud_keeps_confident_points_with_their_colours_and_ply_holds_them(tmp_path):
    points = torch.arange(2 * 2 * 2 * 3.0).reshape(1, 2, 2, 2, 3)
    confidence = torch.arange(8.0).reshape(1, 2, 2, 2)
    images = torch.linspace(-1, 1, 8).reshape(1, 2, 1, 2, 2).expand(1, 2, 3, 2, 2)
    cloud = fused_cloud(Cut3rOutput(points_world=points, conf_world=confidence), images, drop=0.5)
    np.testing.assert_array_equal(cloud.points, np.arange(24.0).reshape(8, 3)[4:])
    assert cloud.colours[-1].tolist() == [255, 255, 255]
    write_ply(cloud, tmp_path / "cloud.ply")
    header, _, body = (tmp_path / "cloud.ply").read_bytes().partition(b"end_header\n")
    assert b"element vertex 4" in header
    kind = [("xyz", "<f4", 3), ("rgb", "u1", 3), ("confidence", "<f4")]
    rows = np.frombuffer(body, dtype=kind)
    np.testing.assert_array_equal(rows["xyz"], cloud.points)
    np.testing.assert_array_equal(rows["rgb"], cloud.colours)


# Losses


def outputs(points: torch.Tensor, confidence: float, pose: torch.Tensor) -> Cut3rOutput:
    c = torch.full(points.shape[:-1], confidence)
    return Cut3rOutput(points_self=points, conf_self=c, points_world=points, conf_world=c, camera_pose=pose)


def truth() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    points = torch.rand(2, 3, 8, 8, 3, generator=g) + 0.5
    pose = torch.tensor([0.1, 0.2, 0.3, 1, 0, 0, 0]).expand(2, 3, 7)
    return points, pose, torch.ones(2, 3, 8, 8, dtype=torch.bool)


def test_the_truth_with_confidence_e_costs_alpha_less_than_nothing():
    points, pose, valid = truth()
    terms = cut3r_loss(outputs(points, float(np.e), pose), points, points, pose, valid)
    assert float(terms["loss"]) == pytest.approx(-2 * ALPHA, abs=1e-6)


def test_loss_ignores_invalid_pixels_and_scale_only_when_truth_is_not_metric():
    points, pose, valid = truth()
    spoiled_points = points.clone()
    spoiled_points[:, :, 0], valid[:, :, 0] = 1e6, False
    half = outputs(spoiled_points / 2, 1.0, torch.cat([pose[..., :3] / 2, pose[..., 3:]], -1))
    assert float(cut3r_loss(half, points, points, pose, valid, metric=False)["loss"]) == pytest.approx(0, abs=1e-5)
    assert float(cut3r_loss(half, points, points, pose, valid)["points_self"]) == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(ValueError, match="no valid pixel"):
        cut3r_loss(half, points, points, pose, torch.zeros_like(valid))


def test_quaternions_of_truth_equal_scipys():
    R = matrix_from_axis_angle(np.random.default_rng(0).normal(size=(50, 3)))
    np.testing.assert_allclose(
        quaternion_wxyz(torch.from_numpy(R)).numpy(), quaternion_wxyz_from_matrix(R), atol=1e-6
    )


@pytest.mark.parametrize("forward", [False, True])
def test_gradients_of_points_and_confidence_are_those_of_the_written_out_formula(forward):
    """Oracle: autograd of the formula, operation by operation."""
    raw = torch.randn(50, 4, dtype=torch.float64).requires_grad_()
    xyz, confidence = raw.split((3, 1), -1)
    xyz = xyz * xyz[:, 2:].detach().sign() if forward else xyz
    norm = xyz.norm(dim=-1, keepdim=True)
    expected = (xyz * (torch.expm1(norm) / norm), 1 + confidence[:, 0].exp())
    given = points_and_confidence(raw.detach().float().requires_grad_(), forward)
    weights = torch.randn(50, 3), torch.randn(50)
    torch.testing.assert_close(given, expected, check_dtype=False)
    gradient = torch.autograd.grad(sum((w * e).sum() for w, e in zip(weights, expected)), raw)[0]
    single = raw.detach().float().requires_grad_()
    sum((w * g).sum() for w, g in zip(weights, points_and_confidence(single, forward))).backward()
    torch.testing.assert_close(single.grad, gradient.float(), rtol=1e-4, atol=1e-4)
    at_nothing = torch.zeros(1, 4, requires_grad=True)
    points_and_confidence(at_nothing, forward)[0].sum().backward()
    assert at_nothing.grad.isfinite().all()


def test_gradients_of_the_regression_are_those_of_the_written_out_formula():
    """Oracle: autograd of the formula; what stands where the truth is not valid changes nothing."""
    points, _, valid = truth()
    points, confidence = points.double(), torch.rand(valid.shape, dtype=torch.float64) + 1.1
    predicted, scale = points + 0.1 * torch.randn_like(points), torch.tensor([1.5, 2.0], dtype=torch.float64)
    valid[:, :, 0], confidence = False, confidence.requires_grad_()
    predicted.requires_grad_()
    distance = (predicted - points).norm(dim=-1) / scale[:, None, None, None]
    expected = ((confidence * distance - ALPHA * confidence.log())[valid]).mean()
    spoiled = points.clone()
    spoiled[:, :, 0] = float("nan")
    given = confident_regression(predicted, confidence, spoiled, valid, scale)
    torch.testing.assert_close(given, expected)
    inputs = (predicted, confidence)
    torch.testing.assert_close(torch.autograd.grad(given, inputs), torch.autograd.grad(expected, inputs))


def test_a_rotation_is_undone_by_its_gradient():
    x, rope = torch.randn(3, 7, 16).requires_grad_(), rope_at(torch.randint(-1, 9, (7, 2)), 16)
    turned = rotate(x, rope)
    (back,) = torch.autograd.grad(turned, x, turned.detach())
    torch.testing.assert_close(back, x.detach())


def test_nano_learns_a_clip_by_heart():
    torch.manual_seed(0)
    model = Cut3rModel(nano_cut3r_config()).train()
    images = torch.rand(1, 2, 3, 32, 32) * 2 - 1
    points = torch.rand(1, 2, 32, 32, 3) * 0.1 + torch.tensor([0.0, 0.0, 0.8])
    pose = torch.tensor([[[0.0, 0, 0, 1, 0, 0, 0], [0.1, 0, 0, 1, 0, 0, 0]]])
    valid = torch.ones(1, 2, 32, 32, dtype=torch.bool)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(25):
        loss = cut3r_loss(model(images), points, points, pose, valid)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
