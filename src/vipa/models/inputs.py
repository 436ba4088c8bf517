"""Checks of the model's input at its border: one line that says which field, what is wrong and what to do."""

import torch
from torch import Tensor

from vipa.models.configuration import VipaConfig


def check_images(
    config: VipaConfig,
    pixel_values: Tensor | None,
    spatial_pixel_values: Tensor | None,
    semantic_features: Tensor | None,
    spatial_features: Tensor | None,
) -> None:
    """ValueError where image inputs are missing, of the wrong layout or type, or do not belong together."""
    vision, fusion = config.vision_config, config.spatial_fusion_config
    if (pixel_values is None) == (semantic_features is None):
        raise ValueError("images: give either pixel_values or semantic_features (cached), not both or neither")
    _check_pixels("pixel_values", pixel_values, vision.image_size)
    patches = (vision.image_size[0] // vision.patch_size[0]) * (vision.image_size[1] // vision.patch_size[1])
    _check_features("semantic_features", semantic_features, patches, vision.hidden_size)
    if not fusion.reads_spatial:
        return
    if (spatial_pixel_values is None) == (spatial_features is None):
        raise ValueError(
            f"images: fusion {fusion.kind!r} reads spatial tokens: give either spatial_pixel_values or "
            "spatial_features (cached), not both or neither"
        )
    if spatial_pixel_values is not None and config.spatial_config is None:
        raise ValueError("spatial_pixel_values: this model has no spatial encoder; give spatial_features")
    _check_pixels("spatial_pixel_values", spatial_pixel_values, None)
    _check_features("spatial_features", spatial_features, None, fusion.spatial_width)
    semantic = pixel_values if pixel_values is not None else semantic_features
    spatial = spatial_pixel_values if spatial_pixel_values is not None else spatial_features
    if len(semantic) != len(spatial):
        raise ValueError(f"images: {len(semantic)} for the semantic encoder, {len(spatial)} for the spatial one")


def _check_pixels(name: str, pixels: Tensor | None, size: tuple[int, int] | None) -> None:
    if pixels is None:
        return
    if not pixels.is_floating_point():
        raise ValueError(f"{name}: dtype {pixels.dtype}; normalise images to floats first (VipaProcessor does)")
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        hint = "; channels are last: permute to (images, 3, height, width)" if pixels.shape[-1] == 3 else ""
        raise ValueError(f"{name}: shape {tuple(pixels.shape)} is not (images, 3, height, width){hint}")
    if size is not None and tuple(pixels.shape[2:]) != tuple(size):
        raise ValueError(
            f"{name}: {pixels.shape[2]} x {pixels.shape[3]} pixels, the model takes {size[0]} x {size[1]}"
        )


def _check_features(name: str, features: Tensor | None, tokens: int | None, width: int) -> None:
    if features is None:
        return
    wanted = f"(images, {tokens or '1 + patches'}, {width})"
    if features.ndim != 3 or features.shape[2] != width or (tokens is not None and features.shape[1] != tokens):
        raise ValueError(f"{name}: shape {tuple(features.shape)} is not {wanted}")


def check_placeholders(config: VipaConfig, input_ids: Tensor, images: int) -> None:
    """ValueError where the text's image tokens are not the images'. Skipped while compiling (it reads values)."""
    if torch.compiler.is_compiling() or input_ids.is_meta:
        return
    tokens_per_image = config.image_seq_length
    per_row = (input_ids == config.image_token_id).sum(1).tolist()
    for row, count in enumerate(per_row):
        if count % tokens_per_image:
            raise ValueError(
                f"input_ids row {row}: {count} image tokens are not whole images of {tokens_per_image}; "
                "make the text with VipaProcessor"
            )
        if count > config.max_images * tokens_per_image:
            raise ValueError(
                f"input_ids row {row}: {count // tokens_per_image} images, max_images is {config.max_images}"
            )
    if sum(per_row) != images * tokens_per_image:
        raise ValueError(
            f"input_ids hold the image tokens of {sum(per_row) // tokens_per_image} images but {images} were given; "
            f"the text needs {tokens_per_image} image tokens for each (VipaProcessor writes them)"
        )


def check_action_inputs(
    config: VipaConfig, state: Tensor, embodiment: Tensor, actions: Tensor | None, mask: Tensor | None
) -> None:
    """ValueError where state, embodiment or actions do not fit the action head."""
    head = config.action_config
    if head is None:
        raise ValueError("this model has no action head: build it with action_config")
    names = list(head.embodiments)
    if torch.compiler.is_compiling():
        return
    if state is None or state.ndim != 2:
        raise ValueError("state: give (batch, length) floats; it is missing or has another number of axes")
    ids = embodiment.unique().tolist()
    for identity in ids:
        if not 0 <= identity < len(names):
            raise ValueError(f"embodiment {identity} is unknown: this model has {dict(enumerate(names))}")
        state_length, action_length = head.embodiments[names[identity]]
        for field, tensor, own, longest in (
            ("state", state, state_length, head.state_length),
            ("actions", actions, action_length, head.action_length),
        ):
            allowed = {own, longest} if len(ids) == 1 else {longest}
            if tensor is not None and tensor.shape[-1] not in allowed:
                raise ValueError(
                    f"{field}: length {tensor.shape[-1]}, but embodiment {names[identity]!r} has {own}"
                    + (f" (pad a mixed batch to {longest})" if len(ids) > 1 else "")
                )
    if actions is not None and actions.shape[:2] != (len(state), head.horizon):
        raise ValueError(
            f"actions: shape {tuple(actions.shape)} is not ({len(state)}, horizon {head.horizon}, action length)"
        )
    if mask is not None and (actions is None or mask.shape != actions.shape[:2]):
        raise ValueError(f"action_mask: shape {tuple(mask.shape)} is not (batch, horizon)")


def embodiment_ids(config: VipaConfig, embodiment: str | list[str] | Tensor | None, batch: int, device) -> Tensor:
    """Ids (batch,) of embodiments by name or id; None means the first one where there is only one."""
    if config.action_config is None:
        raise ValueError("this model has no action head: build it with action_config")
    names = list(config.action_config.embodiments)
    if isinstance(embodiment, Tensor):
        return embodiment.to(device).expand(batch)
    if embodiment is None:
        if len(names) > 1:
            raise ValueError(f"embodiment: say which of {', '.join(names)}")
        embodiment = names[0]
    given = [embodiment] * batch if isinstance(embodiment, str) else list(embodiment)
    for name in given:
        if name not in names:
            raise ValueError(f"embodiment {name!r} is unknown: this model has {', '.join(names)}")
    return torch.tensor([names.index(name) for name in given], device=device)
