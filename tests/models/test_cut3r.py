"""CUT3R against the golden tensors, against itself run in other ways, and at its borders."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from vipa_kit import assert_same_weights

from vipa.models.cut3r import Cut3rConfig, Cut3rModel, cut3r_224_config, cut3r_512_config
from vipa.models.cut3r.layers import Attention, rope_at, rotate
from vipa.nano.sizes import nano_cut3r_config

GOLDEN = Path(__file__).resolve().parents[2].parent / "shared" / "golden"
OUTPUTS = {
    "points_self": "pts3d_in_self_view",
    "conf_self": "conf_self",
    "points_world": "pts3d_in_other_view",
    "conf_world": "conf",
    "rgb": "rgb",
    "camera_pose": "camera_pose",
}


def made(name: str, shape: tuple[int, ...]) -> Tensor:
    """The golden weight of this name (golden/README.md)."""
    r = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    if name.endswith(".weight"):
        r = r / np.sqrt(np.prod(shape[1:])) if len(shape) >= 2 else 1 + 0.02 * r
    else:
        r = 0.02 * r if name.endswith(".bias") else 0.2 * r
    return torch.tensor(r, dtype=torch.float32)


def made_weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: made(name, tuple(t.shape)) for name, t in model.state_dict().items()}


def small_config(head: str, **changes: int) -> Cut3rConfig:
    sizes = {
        "encoder_width": 64,
        "encoder_depth": 2,
        "encoder_heads": 4,
        "decoder_width": 48,
        "decoder_depth": 4,
        "decoder_heads": 4,
        "state_heads": 3,
        "state_size": 16,
        "memory_size": 8,
    }
    return Cut3rConfig(head=head, **(sizes | changes))


def small_model(head: str) -> Cut3rModel:
    model = Cut3rModel(small_config(head)).eval()
    model.load_state_dict(made_weights(model))
    return model


def golden_file(name: str) -> Path:
    path = GOLDEN / name
    if not path.exists():
        pytest.skip(f"golden file {name} is not beside the repository")
    return path


def golden_tensors(head: str) -> dict[str, Tensor]:
    return load_file(golden_file(f"cut3r_small_{head}.safetensors"))


def golden_sizes(head: str) -> dict[str, str]:
    with safe_open(golden_file(f"cut3r_small_{head}.safetensors"), "np") as f:
        return f.metadata()


def golden_keys(name: str) -> dict[str, list[int]]:
    return json.loads(golden_file(f"{name}.keys.json").read_text())


def relative_error(out: Tensor, reference: Tensor) -> float:
    return float((out.float() - reference.float()).norm() / reference.float().norm())


HEADS = ("linear", "dpt")


def clip(batch: int = 2, frames: int = 4, height: int = 32, width: int = 48, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, frames, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module", params=HEADS)
def model(request: pytest.FixtureRequest) -> Cut3rModel:
    return small_model(request.param)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def nano(seed: int = 0) -> Cut3rModel:
    torch.manual_seed(seed)
    return Cut3rModel(nano_cut3r_config()).eval()


@pytest.mark.parametrize("head", HEADS)
def test_every_output_equals_the_golden_tensors_to_1e_4(head):
    golden, sizes = golden_tensors(head), golden_sizes(head)
    out = small_model(head)(golden["images"].transpose(0, 1))
    for t in range(int(sizes["frames"])):
        assert relative_error(out.encoder_tokens[:, t], golden["encoder_tokens"][t]) < 1e-4
        assert relative_error(out.decoder_tokens[:, t], golden["decoder_tokens"][t]) < 1e-4
        for ours, theirs in OUTPUTS.items():
            assert relative_error(out[ours][:, t], golden[f"outputs.{t}.{theirs}"]) < 1e-4, (t, ours)
    assert relative_error(out.state.tokens, golden["state"]) < 1e-4
    assert relative_error(out.state.memory, golden["memory"]) < 1e-4


@pytest.mark.parametrize(
    ("config", "keys", "count"),
    [
        (cut3r_512_config(), "cut3r_512_dpt_4_64", 793_307_858),
        (cut3r_224_config(), "cut3r_224_linear_4", 748_443_655),
        (small_config("dpt"), "cut3r_small_dpt", 58_771_682),
        (small_config("linear"), "cut3r_small_linear", None),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_parameter_names_shapes_and_count_are_those_of_the_released_models(config, keys, count):
    with torch.device("meta"):
        model = Cut3rModel(config)
    assert {name: list(t.shape) for name, t in model.state_dict().items()} == golden_keys(keys)
    if count is not None:
        assert sum(p.numel() for p in model.parameters()) == count


def test_nano_has_about_three_million_parameters():
    assert sum(p.numel() for p in nano().parameters()) < 3.2e6


def test_streaming_equals_the_batch_to_1e_5(model):
    images, state = clip(), None
    whole = model(images)
    for t in range(images.shape[1]):
        out, state = model.step(images[:, t], state)
        for name in (*OUTPUTS, "encoder_tokens", "decoder_tokens"):
            assert relative_error(out[name], whole[name][:, t]) < 1e-5, name
    assert relative_error(state.tokens, whole.state.tokens) < 1e-5
    assert relative_error(state.memory, whole.state.memory) < 1e-5


def test_a_clip_continues_from_the_state_of_its_first_half(model):
    images = clip()
    whole, first = model(images), model(images[:, :2])
    second = model(images[:, 2:], state=first.state)
    assert relative_error(second.decoder_tokens, whole.decoder_tokens[:, 2:]) < 1e-5


def test_future_frames_change_nothing(model):
    images = clip()
    changed = images.clone()
    changed[:, 2:] = clip(seed=1)[:, 2:]
    a, b = model(images), model(changed)
    for name in (*OUTPUTS, "decoder_tokens"):
        assert relative_error(a[name][:, :2], b[name][:, :2]) < 1e-5, name
    assert relative_error(a.decoder_tokens[:, 2], b.decoder_tokens[:, 2]) > 1e-2


@pytest.mark.parametrize("dropped", [0, 2, 3])
def test_a_frame_without_update_leaves_no_trace(model, dropped):
    images = clip()
    update = torch.ones(2, 4, dtype=torch.bool)
    update[:, dropped] = False
    masked = model(images, update=update)
    rest = [t for t in range(4) if t != dropped]
    plain = model(images[:, rest])
    assert relative_error(masked.decoder_tokens[:, rest], plain.decoder_tokens) < 1e-5
    assert relative_error(masked.state.memory, plain.state.memory) < 1e-5


def test_streams_of_one_batch_are_masked_apart(model):
    images = clip()
    update = torch.tensor([[True] * 4, [True, False, True, True]])
    both = model(images, update=update)
    assert relative_error(both.decoder_tokens[0], model(images[:1]).decoder_tokens[0]) < 1e-5
    assert relative_error(both.decoder_tokens[1, [0, 2, 3]], model(images[1:, [0, 2, 3]]).decoder_tokens[0]) < 1e-5


def test_reset_gives_the_learned_state_back_but_is_no_new_clip(model):
    images = clip()
    reset = torch.zeros(2, 4, dtype=torch.bool)
    reset[:, 1] = True
    out = model(images, reset=reset)
    assert relative_error(out.decoder_tokens[:, :2], model(images[:, :2]).decoder_tokens) < 1e-5
    initial = model.initial_state(2)
    started = type(initial)(initial.tokens, initial.memory, torch.ones(2, dtype=torch.bool))
    again = model(images[:, 2:], state=started)
    assert relative_error(out.decoder_tokens[:, 2:], again.decoder_tokens) < 1e-5
    fresh = model(images[:, 2:])
    assert relative_error(out.decoder_tokens[:, 2], fresh.decoder_tokens[:, 0]) > 1e-3


def test_a_ray_map_query_is_answered_and_does_not_enter_the_state(model):
    images, rays = clip(), torch.randn(2, 4, 6, 32, 48)
    img_mask = torch.tensor([[True, True, True, False]] * 2)
    out = model(images, ray_maps=rays, img_mask=img_mask, ray_mask=~img_mask)
    other = model(
        torch.cat([images[:, :3], -images[:, 3:]], 1), ray_maps=rays, img_mask=img_mask, ray_mask=~img_mask
    )
    assert relative_error(out.decoder_tokens, other.decoder_tokens) < 1e-5  # the absent image is not looked at
    before = model(images[:, :3], ray_maps=rays[:, :3], ray_mask=~img_mask[:, :3])
    assert relative_error(out.state.tokens, before.state.tokens) < 1e-5


def test_masked_streaming_with_ray_maps_equals_the_batch():
    model, images, rays, state = small_model("linear"), clip(), torch.randn(2, 4, 6, 32, 48), None
    img_mask = torch.tensor([[True, True, False, True], [True, False, True, True]])
    ray_mask = torch.tensor([[False, True, True, False], [False, True, False, True]])
    whole = model(images, ray_maps=rays, img_mask=img_mask, ray_mask=ray_mask)
    for t in range(4):
        masks = {"img_mask": img_mask[:, t], "ray_mask": ray_mask[:, t]}
        out, state = model.step(images[:, t], state, ray_map=rays[:, t], **masks)
        assert relative_error(out.decoder_tokens, whole.decoder_tokens[:, t]) < 1e-5


def test_tokens_alone_are_the_same_and_no_head_runs(model):
    images = clip()
    tokens = model(images, heads=())
    assert tokens.points_self is None
    assert tokens.camera_pose is None
    assert relative_error(model.decoder_tokens(images), tokens.decoder_tokens) < 1e-5
    assert tokens.decoder_tokens.shape == (2, 4, 1 + 6, 48)
    assert relative_error(tokens.decoder_tokens, model(images).decoder_tokens) < 1e-5


def test_one_head_gives_what_all_give(model):
    images = clip()
    everything, one = model(images), model(images, heads=("world",))
    assert relative_error(one.points_world, everything.points_world) < 1e-5
    assert one.rgb is None


def test_rotation_is_a_rotation_by_the_position(model):
    """Oracle: complex numbers; feature k of the y half turns by y / 100^(k/Q)."""
    positions, q = torch.tensor([[-1, -1], [0, 3], [5, 2]]), 4
    x = torch.randn(3, 4 * q, dtype=torch.float64)
    expected = []
    for half, axis in ((x[:, : 2 * q], 0), (x[:, 2 * q :], 1)):
        angles = positions[:, axis, None] / 100 ** (torch.arange(q, dtype=torch.float64) / q)
        turned = torch.complex(half[:, :q], half[:, q:]) * torch.polar(torch.ones_like(angles), angles)
        expected += [turned.real, turned.imag]
    torch.testing.assert_close(rotate(x, rope_at(positions, 4 * q)), torch.cat(expected, 1), rtol=1e-6, atol=1e-6)


def test_rounding_q_and_k_to_fp16_moves_encoder_tokens_by_less_than_1e_3_and_more_than_nothing():
    model, images = small_model("linear"), clip()
    rounded = model.encode(images).tokens
    for module in model.modules():
        if isinstance(module, Attention):
            module.fp16_rotation = False
    exact = model.encode(images).tokens
    assert 1e-6 < relative_error(exact, rounded) < 1e-3


def test_state_tokens_of_the_released_models_stand_on_a_grid_28_wide():
    assert cut3r_512_config().state_grid_width == 28
    assert small_config("linear").state_grid_width == 4


def test_bf16_stays_within_two_percent_on_point_maps():
    """On maps of moderate size; the golden weights make points of hundreds of metres through expm1."""
    model = nano()
    images = clip(2, 4, 112, 112)
    exact = model(images)
    rough = Cut3rModel(nano_cut3r_config()).eval()
    rough.load_state_dict(model.state_dict())
    rough = rough.bfloat16()(images)
    # the linear head's jump at z = 0 is not a matter of precision: compare where z is away from it
    size = exact.points_self.norm(dim=-1, keepdim=True)
    clear = (exact.points_self[..., 2:] > 0.05 * size).float()
    assert relative_error(rough.points_self * clear, exact.points_self * clear) < 0.02
    assert relative_error(rough.points_world, exact.points_world) < 0.02
    assert rough.points_self.dtype == torch.float32


def test_saved_and_loaded_it_says_the_same(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = Cut3rModel.from_pretrained(tmp_path).eval()
    assert loaded.config.to_dict() == model.config.to_dict() | {
        k: loaded.config.to_dict()[k] for k in ("_name_or_path", "dtype") if k in loaded.config.to_dict()
    }
    images = clip()
    assert_same_weights(loaded, model)
    assert relative_error(loaded(images).points_world, model(images).points_world) < 1e-5


def test_gradients_reach_every_parameter_but_what_cannot_matter():
    """The unused residual unit, and queries and keys where a frame's single token is written to the memory."""
    with torch.enable_grad():
        model = small_model("dpt").train()
        rays = torch.randn(1, 3, 6, 32, 32)
        img_mask = torch.tensor([[True, True, False]])
        ray_mask = torch.tensor([[False, True, True]])
        out = model(clip(1, 3, 32, 32), ray_maps=rays, img_mask=img_mask, ray_mask=ray_mask)
        sum(out[name].mean() for name in OUTPUTS).backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None}
    parts = ("norm2.weight", "norm2.bias", *(f"cross_attn.proj{x}.{y}" for x in "qk" for y in ("weight", "bias")))
    written = {f"pose_retriever.write_blocks.{i}.{part}" for i in range(2) for part in parts}
    assert all("refinenet4.resConfUnit1" in name for name in silent - written)
    assert written <= silent


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 2, 3, 40, 48), "multiples of 16"),
        (torch.zeros(1, 0, 3, 32, 48), "empty clip"),
        (torch.zeros(2, 3, 32, 48), "batch, frames, 3"),
        ([torch.zeros(3, 32, 48), torch.zeros(3, 48, 32)], "all frames of one size"),
        (torch.full((1, 1, 3, 32, 48), 200.0), r"expected \[-1, 1\]"),
        (torch.full((1, 1, 3, 32, 48), float("nan")), r"expected \[-1, 1\]"),
        (torch.zeros(1, 1, 3, 32, 48, dtype=torch.uint8), "float"),
    ],
)
def test_bad_images_are_refused_with_what_to_do(images, message):
    with pytest.raises(ValueError, match=message):
        small_model("linear")(images)


def test_bad_requests_are_refused():
    model, images = nano(), clip(1, 2, 112, 112)
    with pytest.raises(ValueError, match="rgb"):
        model(images, heads=("rgb",))
    with pytest.raises(ValueError, match="ray-map encoder"):
        model(images, ray_maps=torch.zeros(1, 2, 6, 112, 112))
    with pytest.raises(ValueError, match="update must be bool"):
        model(images, update=torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="multiple of 4"):
        Cut3rConfig(encoder_width=100, encoder_heads=10)
    with pytest.raises(ValueError, match="not a multiple of 4"):
        Cut3rConfig(head="dpt", decoder_depth=6)
