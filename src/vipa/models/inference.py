"""Action chunks at a steady rate: what does not change between observations is computed once (section 3.2.2)."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache

from vipa.models.inputs import check_action_inputs, check_placeholders, embodiment_ids
from vipa.models.modeling import VipaForConditionalGeneration
from vipa.models.noise import draw

Compile = Literal["none", "default", "cuda_graphs"]


class ActionRunner:
    """Repeated `generate_actions` for one prompt, with the same result and less work.

    Text before the first image of at least `keeps` tokens is run once and its keys and values are kept; embeddings,
    masks and positions are made once, so that every call has the same shapes. Each call runs both encoders, the rest
    of the prompt with the action queries, and the Euler steps. A prompt that puts the instruction before the images
    keeps nearly all of its text; where nothing is kept, chunks are those of `generate_actions` to the bit.

    input_ids, attention_mask: (batch, length), every row with the same number of images, each its own clip.
    compile: `default` is torch.compile, `cuda_graphs` its mode for static shapes on a GPU; both equal `none` up to
    rounding. Give a new object for a new prompt, or after the weights changed.
    """

    def __init__(
        self,
        model: VipaForConditionalGeneration,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        embodiment: str | list[str] | Tensor | None = None,
        steps: int = 4,
        compile: Compile = "none",
        keeps: int = 1,
    ):
        config = model.config
        self.model, self.steps = model, steps
        self.embodiment = embodiment_ids(config, embodiment, len(input_ids), input_ids.device)
        self._known = self.embodiment.cpu()  # checked in every call, without waiting for the device
        is_image = input_ids == config.image_token_id
        self.images = int(is_image.sum()) // config.image_seq_length
        check_placeholders(config, input_ids, self.images)
        if not is_image.any(1).all():
            raise ValueError("input_ids: every row needs an image")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        prefix = int(is_image.int().argmax(1).min())
        prefix = prefix if prefix >= keeps else 0
        with torch.no_grad():
            embeds = model.get_input_embeddings()(input_ids)
            queries = model.model.action_queries.weight.to(embeds.dtype).expand(len(embeds), -1, -1)
            embeds = torch.cat([embeds, queries], dim=1)
            mask = torch.cat([mask, mask.new_ones(queries.shape[:2])], dim=1).bool()
            positions = (mask.long().cumsum(1) - 1).clamp_min(0)
            attends = mask.new_ones(mask.shape[1], mask.shape[1]).tril() & mask[:, None, None]
            # A padded place attends to itself, so that no row of the softmax is empty.
            attends = attends | torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
            self.prefix: list[tuple[Tensor, Tensor]] = []
            if prefix:
                cache = DynamicCache(config=config.text_config)
                model.model(
                    inputs_embeds=embeds[:, :prefix],
                    attention_mask=attends[:, :, :prefix, :prefix],
                    position_ids=positions[:, :prefix],
                    past_key_values=cache,
                    use_cache=True,
                )
                self.prefix = [(layer.keys, layer.values) for layer in cache.layers]
        self.prefix_length, self.embeds = prefix, embeds[:, prefix:]
        plain = not prefix and bool(mask.all())  # causal attention needs no mask
        self.mask, self.positions = None if plain else attends[:, :, prefix:], positions[:, prefix:]
        self.image_rows = F.pad(is_image, (0, queries.shape[1]))[:, prefix:].flatten().nonzero()[:, 0]
        mode = {"default": "default", "cuda_graphs": "reduce-overhead"}
        self._run = self._observe if compile == "none" else torch.compile(self._observe, mode=mode[compile])

    @torch.no_grad()
    def __call__(
        self,
        *,
        pixel_values: Tensor,
        state: Tensor,
        spatial_pixel_values: Tensor | None = None,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Float[Tensor, "batch horizon action"]:
        """Normalised action chunk; see `VipaForConditionalGeneration.generate_actions`."""
        if len(pixel_values) != self.images:
            raise ValueError(f"pixel_values: {len(pixel_values)} images, this prompt has {self.images}")
        check_action_inputs(self.model.config, state, self._known, None, None)
        head = self.model.config.action_config
        if noise is None:
            shape = (len(state), head.horizon, head.action_length)
            noise = draw(torch.randn, *shape, device=state.device, generator=generator)
        # CUDA graphs write every result to the same memory.
        return self._run(pixel_values, spatial_pixel_values, state, noise).clone()

    def _observe(
        self, pixel_values: Tensor, spatial_pixel_values: Tensor | None, state: Tensor, noise: Tensor
    ) -> Tensor:
        model = self.model
        images = model.model.get_image_features(pixel_values, spatial_pixel_values).pooler_output
        batch, length, width = self.embeds.shape
        embeds = self.embeds.reshape(-1, width).index_copy(
            0, self.image_rows, images.reshape(-1, width).to(self.embeds)
        )
        outputs = model.model(
            inputs_embeds=embeds.view(batch, length, width),
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=DynamicCache(self.prefix, config=model.config.text_config) if self.prefix else None,
            output_hidden_states=model.reads_layers,
            use_cache=bool(self.prefix),
        )
        condition = model.condition(outputs)
        return model.action_head.sample(condition, state, self.embodiment, self.steps, noise=noise)
