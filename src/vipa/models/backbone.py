"""The VIPA model without its heads: encoders, fusion, projector, language model."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache

import torch
from torch import Tensor, nn
from transformers import AutoModel, InternVLModel
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.internvl.modeling_internvl import InternVLModelOutputWithPast

from vipa.models.action_head import FlowActionHead, PerEmbodimentLinear
from vipa.models.configuration import VipaConfig
from vipa.models.fusion import SpatialFusion
from vipa.models.inputs import check_images, check_placeholders
from vipa.models.packed_attention import mask_for


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all calls: each stream keeps freed memory of its own."""
    return torch.cuda.Stream(device)


class VipaWeights:
    """Initial values of the added parts; mixed into the base model and the whole one."""

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SpatialFusion):
            init.constant_(module.alpha, module.config.alpha_init)
            init.constant_(module.norm.weight, module.config.branch_init)
        elif isinstance(module, PerEmbodimentLinear | FlowActionHead):
            module.initialise()


class VipaModel(VipaWeights, InternVLModel):
    """Encoders, fusion, projector and language model, without the heads."""

    config: VipaConfig

    def __init__(self, config: VipaConfig):
        super().__init__(config)
        fusion, action = config.spatial_fusion_config, config.action_config
        # The spatial encoder attends in its own way: the choice of implementation is the vision and text towers'.
        spatial = config.spatial_config
        self.spatial_tower = AutoModel.from_config(spatial, attn_implementation="eager") if spatial else None
        self.fusion = SpatialFusion(fusion, config.vision_config.hidden_size) if fusion.kind != "none" else None
        self.action_queries = nn.Embedding(action.queries, config.text_config.hidden_size) if action else None
        self.post_init()

    def encode_images(
        self,
        pixel_values: Tensor | None = None,
        spatial_pixel_values: Tensor | None = None,
        clip_lengths: Sequence[int] | Tensor | None = None,
        semantic_features: Tensor | None = None,
        spatial_features: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens of both encoders, before fusion: what may be cached while the encoders are frozen.

        pixel_values: (images, 3, H, W), as the vision tower wants them. spatial_pixel_values: (images, 3, h, w) in
        [-1, 1]. clip_lengths: frames per clip, in order, summing to images; the spatial encoder carries its state
        from frame to frame of a clip (None: every image is its own clip). Features that are given are passed on.

        Returns semantic (images, patches, vision width) and spatial (images, 1 + patches, spatial width); the
        latter is None where the fusion does not read it. Their precision is `config.encoder_precision`, whatever
        autocast is around: what is cached in training is what an evaluation or a policy computes.
        """
        check_images(self.config, pixel_values, spatial_pixel_values, semantic_features, spatial_features)
        pixels = spatial_pixel_values if pixel_values is None else pixel_values
        if pixels is None:
            return self._encode(None, None, clip_lengths, semantic_features, spatial_features)
        rounded = self.config.encoder_precision == "bf16"
        kind = pixels.device.type  # `meta` knows no autocast
        precision = nullcontext() if kind == "meta" else torch.autocast(kind, torch.bfloat16, enabled=rounded)
        with precision:
            semantic, spatial = self._encode(
                pixel_values, spatial_pixel_values, clip_lengths, semantic_features, spatial_features
            )
        if rounded:
            semantic, spatial = semantic.bfloat16(), None if spatial is None else spatial.bfloat16()
        return semantic, spatial

    def _encode(
        self,
        pixel_values: Tensor | None,
        spatial_pixel_values: Tensor | None,
        clip_lengths: Sequence[int] | Tensor | None,
        semantic_features: Tensor | None,
        spatial_features: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        if not self.config.spatial_fusion_config.reads_spatial:
            semantic = semantic_features if pixel_values is None else self._semantic_tokens(pixel_values)
            assert semantic is not None  # check_images
            return semantic, None
        on_cuda = pixel_values is not None and pixel_values.is_cuda and not torch.compiler.is_compiling()
        if spatial_pixel_values is None or not on_cuda:
            semantic = semantic_features if pixel_values is None else self._semantic_tokens(pixel_values)
            assert semantic is not None  # check_images
            spatial = spatial_features
            if spatial_pixel_values is not None:
                spatial = self._spatial_tokens(spatial_pixel_values, clip_lengths)
            return semantic, spatial
        # Both encoders at once, each on its own stream.
        main, side = torch.cuda.current_stream(), _side_stream(pixel_values.device)
        side.wait_stream(main)
        with torch.cuda.stream(side):
            spatial = self._spatial_tokens(spatial_pixel_values, clip_lengths)
        semantic = self._semantic_tokens(pixel_values)
        main.wait_stream(side)
        spatial.record_stream(main)
        return semantic, spatial

    def _semantic_tokens(self, pixels: Tensor) -> Tensor:
        """(images, patches, width) of the vision tower's layer that InternVL reads, without the class token."""
        layer, every = self.config.vision_feature_layer, self.config.vision_feature_layer != -1
        output = self.vision_tower(
            pixels.to(self.vision_tower.dtype), output_hidden_states=every, return_dict=True
        )
        tokens = output.hidden_states[layer] if every else output.last_hidden_state
        return tokens[:, 1:] if self.config.vision_feature_select_strategy == "default" else tokens

    def _spatial_tokens(self, pixels: Tensor, clip_lengths: Sequence[int] | Tensor | None) -> Tensor:
        """(images, 1 + patches, width); clips of equal length run together, frame after frame."""
        pixels = pixels.to(self.spatial_tower.dtype)
        lengths = [1] * len(pixels) if clip_lengths is None else [int(length) for length in clip_lengths]
        if sum(lengths) != len(pixels):
            raise ValueError(f"clip_lengths sum to {sum(lengths)} but there are {len(pixels)} images")
        if len(set(lengths)) == 1:
            return self.spatial_tower.decoder_tokens(pixels.unflatten(0, (-1, lengths[0]))).flatten(0, 1)
        images = pixels.split(lengths)
        tokens: list[Tensor] = [pixels] * len(lengths)
        for length in sorted(set(lengths)):
            same = [clip for clip, other in enumerate(lengths) if other == length]
            together = self.spatial_tower.decoder_tokens(torch.stack([images[clip] for clip in same]))
            for clip, own in zip(same, together):
                tokens[clip] = own
        return torch.cat(tokens)

    def project(self, semantic: Tensor, spatial: Tensor | None) -> Tensor:
        """Image tokens of the language model (images, tokens, width): fusion, pixel shuffle, projector."""
        dtype = self.multi_modal_projector.linear_1.weight.dtype
        tokens = semantic.to(dtype)
        if self.fusion is not None:
            tokens = self.fusion(tokens, None if spatial is None else spatial.to(dtype))
        side = round(tokens.shape[1] ** 0.5)
        grid = self.pixel_shuffle(tokens.unflatten(1, (side, side)), scale_factor=self.config.downsample_ratio)
        return self.multi_modal_projector(grid.flatten(1, 2))

    def get_image_features(
        self,
        pixel_values: Tensor | None = None,
        spatial_pixel_values: Tensor | None = None,
        semantic_features: Tensor | None = None,
        spatial_features: Tensor | None = None,
        clip_lengths: Sequence[int] | Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        """`last_hidden_state`: semantic tokens before fusion; `pooler_output`: image tokens of the text."""
        semantic, spatial = self.encode_images(
            pixel_values, spatial_pixel_values, clip_lengths, semantic_features, spatial_features
        )
        return BaseModelOutputWithPooling(
            last_hidden_state=semantic, pooler_output=self.project(semantic, spatial)
        )

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        spatial_pixel_values: Tensor | None = None,
        semantic_features: Tensor | None = None,
        spatial_features: Tensor | None = None,
        clip_lengths: Sequence[int] | Tensor | None = None,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        append_queries: bool = False,
        **kwargs,
    ) -> InternVLModelOutputWithPast:
        """Hidden states (batch, length [+ queries], width) of text, images and, where asked, action queries.

        attention_mask: (batch, keys) with 1 for real tokens, on either side; or (batch, 1, queries, keys), bool
        (True attends) or additive, for packed rows. position_ids: from a 2D mask where they are not given.
        clip_lengths: None makes one clip of each row's images.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        images = (mm_encoder_outputs or {}).get("image")
        if input_ids is not None and past_key_values is None:
            given = next((len(x) for x in (pixel_values, semantic_features) if x is not None), 0)
            given = given if images is None else len(images.pooler_output)
            check_placeholders(self.config, input_ids, given)
        if images is None and (pixel_values is not None or semantic_features is not None):
            if clip_lengths is None:
                clip_lengths = self.images_per_row(input_ids)
            images = self.get_image_features(
                pixel_values, spatial_pixel_values, semantic_features, spatial_features, clip_lengths
            )
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if images is not None:
            features = images.pooler_output.to(inputs_embeds)
            mask = self.get_placeholder_mask(input_ids, inputs_embeds=inputs_embeds, image_features=features)
            inputs_embeds = inputs_embeds.masked_scatter(mask, features)
        if position_ids is None and attention_mask is not None and attention_mask.ndim == 2:
            position_ids = (attention_mask.long().cumsum(1) - 1).clamp_min(0)[:, -inputs_embeds.shape[1] :]
        if append_queries:
            inputs_embeds, attention_mask, position_ids = self._with_queries(
                inputs_embeds, attention_mask, position_ids
            )
        attention = self.config.text_config._attn_implementation
        outputs = self.language_model(
            attention_mask=mask_for(attention, attention_mask, kwargs.get("turn_slots"), inputs_embeds.dtype),
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        return InternVLModelOutputWithPast(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def images_per_row(self, input_ids: Tensor | None) -> list[int] | None:
        """Images of each row, which are one clip where nothing else is said; rows without images are left out."""
        if input_ids is None or not self.config.spatial_fusion_config.reads_spatial:
            return None
        counts = (input_ids == self.config.image_token_id).sum(1) // self.config.image_seq_length
        return [count for count in counts.tolist() if count]

    def _with_queries(
        self, embeds: Tensor, mask: Tensor | None, positions: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The action queries after every row; their positions go on from the row's last real token."""
        if mask is not None and mask.ndim != 2:
            raise ValueError("attention_mask: actions need a 2D mask (batch, length); packed rows take text only")
        batch, queries = len(embeds), self.action_queries.weight
        embeds = torch.cat([embeds, queries.to(embeds.dtype).expand(batch, -1, -1)], dim=1)
        steps = torch.arange(1, 1 + len(queries), device=embeds.device)
        if positions is not None:
            last = positions[:, -1:] if mask is None else (positions * mask.bool()).amax(1, keepdim=True)
            positions = torch.cat([positions.expand(batch, -1), (last + steps).expand(batch, -1)], dim=1)
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones((batch, len(queries)))], dim=1)
        return embeds, mask, positions
