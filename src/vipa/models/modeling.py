"""The whole VIPA model: InternVL with a spatial encoder fused in, motion tokens and a flow-matching action head."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, InternVLForConditionalGeneration, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import slice_logits_to_keep
from transformers.models.internvl.modeling_internvl import (
    InternVLCausalLMOutputWithPast,
    InternVLModelOutputWithPast,
    InternVLPreTrainedModel,
)

from vipa.models.action_head import FlowActionHead
from vipa.models.backbone import VipaModel, VipaWeights
from vipa.models.configuration import ActionHeadConfig, VipaConfig, vipa_config_of
from vipa.models.inputs import check_action_inputs, check_placeholders, embodiment_ids
from vipa.models.loading import check_type, load_model

IMAGE_INPUTS = ("pixel_values", "spatial_pixel_values", "semantic_features", "spatial_features", "clip_lengths")


@dataclass
class VipaOutput(InternVLCausalLMOutputWithPast):
    """InternVL's output; `loss` is the sum of the losses that were asked for.

    text_loss: cross-entropy over labelled tokens. action_loss: flow-matching error over real steps.
    action_condition: hidden states of the action queries, (batch, queries, width), or with the per-layer
        connection (language layers + 1, batch, queries, width).
    """

    text_loss: Tensor | None = None
    action_loss: Tensor | None = None
    action_condition: Tensor | None = None


class VipaForConditionalGeneration(VipaWeights, InternVLForConditionalGeneration):
    """The whole model: text and motion tokens from the language head, action chunks from the flow-matching head.

    VIPA-VLA section 3.2.2. With `spatial_fusion_config.kind = "none"` it is InternVL, logit for logit.
    """

    config: VipaConfig

    def __init__(self, config: VipaConfig):
        # InternVL's own constructor would build a second InternVLModel.
        InternVLPreTrainedModel.__init__(self, config)
        text, action = config.text_config, config.action_config
        self.model = VipaModel(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.action_head = (
            FlowActionHead(action, text.hidden_size, text.num_hidden_layers + 1) if action is not None else None
        )
        self.post_init()

    @classmethod
    def from_parts(
        cls,
        vlm: str | Path | InternVLForConditionalGeneration,
        spatial: str | Path | PreTrainedModel | None,
        *,
        vlm_revision: str | None = None,
        spatial_revision: str | None = None,
        dtype: str | torch.dtype = torch.float32,
        fusion: dict | None = None,
        action: ActionHeadConfig | None = None,
    ) -> "VipaForConditionalGeneration":
        """Join a pretrained InternVL and a pretrained spatial encoder; fusion, queries and action head are new.

        vlm: InternVL in the `-HF` flavour, such as `OpenGVLab/InternVL3_5-2B-HF`, or a local folder, or a model.
        spatial: folder of an imported CUT3R, hub name, or a model; None where the fusion does not read it.
        dtype: of the loaded parts; "auto" is what the VLM is stored in. revisions: branch, tag or commit on the hub.
        fusion: fields of FusionConfig to change. action: or None.
        Motion tokens are added afterwards (`add_motion_tokens`), with the checkpoint's tokenizer.
        """
        if isinstance(vlm, str | Path):
            kind = check_type(vlm, ("internvl", "vipa"), vlm_revision)
            own = InternVLForConditionalGeneration if kind == "internvl" else cls
            vlm = load_model(own, vlm, dtype=dtype, revision=vlm_revision)
        if isinstance(spatial, str | Path):
            spatial = load_model(AutoModel, spatial, dtype=dtype, revision=spatial_revision)
            if not hasattr(spatial.config, "decoder_width"):
                raise ValueError(f"spatial: a {spatial.config.model_type!r} is no spatial encoder; give a CUT3R")
            spatial = spatial.to(vlm.dtype)  # imported weights are float32
        config = vipa_config_of(vlm.config, None if spatial is None else spatial.config, fusion, action)
        config.encoder_precision = "bf16" if vlm.dtype == torch.bfloat16 else "fp32"
        with torch.device("meta"):
            model = cls(config)
        inner = model.model
        for part in (inner.fusion, inner.action_queries, model.action_head):
            if part is not None:
                part.to_empty(device=vlm.device).to(vlm.dtype).apply(model._init_weights)
        inner.vision_tower, inner.language_model = vlm.model.vision_tower, vlm.model.language_model
        inner.multi_modal_projector, model.lm_head = vlm.model.multi_modal_projector, vlm.lm_head
        inner.spatial_tower = spatial
        model.generation_config = vlm.generation_config
        model.tie_weights()
        return model.eval()

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
        labels: Tensor | None = None,
        num_items_in_batch: int | Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        actions: Tensor | None = None,
        action_mask: Tensor | None = None,
        state: Tensor | None = None,
        embodiment: str | list[str] | Tensor | None = None,
        noise_draws: int = 1,
        generator: torch.Generator | None = None,
        flow_noise: Tensor | None = None,
        flow_uniform: Tensor | None = None,
        sent: Tensor | None = None,
        **kwargs,
    ) -> VipaOutput:
        """Logits, or the losses that were asked for.

        Text, images, masks, clips: see `VipaModel.forward`.
        labels: (batch, length), -100 where nothing is learned. Logits are then computed at labelled positions
        only and not returned. num_items_in_batch: divide the summed loss by this instead of the labels' number (of
        the actions' where there are no labels).
        logits_to_keep: without labels, as in transformers (0: all).
        actions: (batch, horizon, action length), normalised. action_mask: (batch, horizon), False where padded.
        state: (batch, state length). embodiment: names or ids (batch,). noise_draws: draws of noise and time per
        sample, sharing one pass of the language model. generator: of those draws. flow_noise, flow_uniform: the draws
        themselves; sent: first actions that each of them is given (`FlowActionHead.loss`).
        """
        if actions is not None or labels is not None:
            # A loss reads no cache, and under autocast it makes keys float32.
            kwargs.setdefault("use_cache", False)
        if actions is not None:
            embodiment = embodiment_ids(self.config, embodiment, len(actions), actions.device)
            check_action_inputs(self.config, state, embodiment, actions, action_mask)
            kwargs["output_hidden_states"] = kwargs.get("output_hidden_states") or self.reads_layers
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            pixel_values=pixel_values,
            spatial_pixel_values=spatial_pixel_values,
            semantic_features=semantic_features,
            spatial_features=spatial_features,
            clip_lengths=clip_lengths,
            mm_encoder_outputs=mm_encoder_outputs,
            append_queries=actions is not None,
            **kwargs,
        )
        hidden, condition = outputs.last_hidden_state, None
        text_loss = action_loss = logits = None
        if actions is not None:
            condition = self.condition(outputs)
            hidden = hidden[:, : -self.config.action_config.queries]
            action_loss = self.action_head.loss(
                condition,
                actions,
                state,
                embodiment,
                action_mask,
                noise_draws,
                generator,
                flow_noise=flow_noise,
                flow_uniform=flow_uniform,
                sent=sent,
                items=num_items_in_batch if labels is None else None,
            )
        if labels is not None:
            text_loss = self._text_loss(hidden, labels, num_items_in_batch)
        elif actions is None:
            logits = self.lm_head(slice_logits_to_keep(hidden, logits_to_keep))
        losses = [loss for loss in (text_loss, action_loss) if loss is not None]
        return VipaOutput(
            loss=sum(losses) if losses else None,
            logits=logits,
            text_loss=text_loss,
            action_loss=action_loss,
            action_condition=condition,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=outputs.image_hidden_states,
        )

    def _text_loss(self, hidden: Tensor, labels: Tensor, items: int | Tensor | None) -> Tensor:
        targets = labels[:, 1:]
        keep = targets != -100
        logits = self.lm_head(hidden[:, :-1][keep]).float()
        total = F.cross_entropy(logits, targets[keep], reduction="sum")
        return total / (keep.sum().clamp_min(1) if items is None else items)

    @property
    def reads_layers(self) -> bool:
        """Whether the action head reads every layer of the language model, not only the last."""
        return self.config.action_config.connection == "per_layer"

    def condition(self, outputs: InternVLModelOutputWithPast) -> Tensor:
        """Hidden states of the action queries; shapes as in `VipaOutput.action_condition`."""
        queries = self.config.action_config.queries
        if self.reads_layers:
            return torch.stack([hidden[:, -queries:] for hidden in outputs.hidden_states])
        return outputs.last_hidden_state[:, -queries:]

    def encode_images(self, *args, **kwargs) -> tuple[Tensor, Tensor | None]:
        """See `VipaModel.encode_images`."""
        return self.model.encode_images(*args, **kwargs)

    def get_image_features(self, *args, **kwargs) -> BaseModelOutputWithPooling:
        """See `VipaModel.get_image_features`."""
        return self.model.get_image_features(*args, **kwargs)

    @torch.no_grad()
    def generate(self, inputs: Tensor | None = None, **kwargs):
        """transformers' `generate`; images are encoded once, here, and repeated with the rows they belong to."""
        given = {name: kwargs.pop(name, None) for name in IMAGE_INPUTS}
        input_ids = inputs if inputs is not None else kwargs.get("input_ids")
        if given["pixel_values"] is not None or given["semantic_features"] is not None:
            name = "semantic_features" if given["pixel_values"] is None else "pixel_values"
            check_placeholders(self.config, input_ids, len(given[name]))
            if given["clip_lengths"] is None:
                given["clip_lengths"] = self.model.images_per_row(input_ids)
            kwargs["mm_encoder_outputs"] = {"image": self.get_image_features(**given)}
        return super().generate(inputs, **kwargs)

    @torch.no_grad()
    def generate_actions(
        self,
        *,
        state: Tensor,
        embodiment: str | list[str] | Tensor | None = None,
        steps: int = 4,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        **inputs,
    ) -> Tensor:
        """Normalised action chunk (batch, horizon, longest action length), float32, by `steps` Euler steps.

        inputs: text and images as in `forward`; they pass the encoders and the language model once.
        generator or noise (batch, horizon, longest action length): the start of the flow.
        """
        embodiment = embodiment_ids(self.config, embodiment, len(state), state.device)
        check_action_inputs(self.config, state, embodiment, None, None)
        outputs = self.model(
            **inputs, append_queries=True, output_hidden_states=self.reads_layers, use_cache=False
        )
        return self.action_head.sample(self.condition(outputs), state, embodiment, steps, generator, noise)

    def set_attn_implementation(self, attn_implementation: str | dict, **kwargs) -> None:
        """`eager`, `sdpa`, `flash_attention_2`, `flex_attention` for vision and text; the other parts use SDPA."""
        if isinstance(attn_implementation, str):
            attn_implementation = dict.fromkeys(("", "vision_config", "text_config"), attn_implementation)
        super().set_attn_implementation(attn_implementation, **kwargs)

    def parts(self) -> dict[str, nn.Module]:
        """Every parameter in exactly one part: what a training stage may name. Absent parts are left out."""
        inner = self.model
        parts = {
            "vision": inner.vision_tower,
            "projector": inner.multi_modal_projector,
            "language": nn.ModuleList([inner.language_model, self.lm_head]),
            "spatial": inner.spatial_tower,
            "fusion": inner.fusion,
            "action_queries": inner.action_queries,
            "action_head": self.action_head,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def fusion_diagnostics(self) -> dict[str, float]:
        """alpha, and the norm ratio of F_spa to V_sem in the last call; empty without fusion."""
        return {} if self.model.fusion is None else self.model.fusion.diagnostics()

    def set_spatial_control(self, control: str | None) -> None:
        """Replace the spatial tokens: `zero`, `shuffle` (those of another image), None (the real ones)."""
        if self.model.fusion is None:
            raise ValueError("spatial control: this model has no fusion (spatial_fusion_config.kind is 'none')")
        self.model.fusion.set_control(control)
