"""Fusion of spatial (3D) tokens into semantic ones, before pixel shuffle and projector (section 3.2.2).

All kinds share one frame: V_f = dropout(V_sem + alpha * F), F = LayerNorm(branch(V_sem, V_spa)). The layer norm
sits on the branch, as in VLM-3R: the paper's text puts it after the sum, where it would rescale the tokens that a
frozen projector and language model expect, and the model could not equal InternVL at any alpha.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vipa.models.attention import attend
from vipa.models.configuration import FusionConfig

CONTROLS = (None, "zero", "shuffle")


class CrossAttentionBranch(nn.Module):
    """Semantic tokens query spatial tokens in a shared attention space; output in the vision width."""

    def __init__(self, config: FusionConfig, vision_width: int, source_width: int):
        super().__init__()
        self.heads = config.heads
        self.norm_semantic = nn.LayerNorm(vision_width)
        self.norm_spatial = nn.LayerNorm(source_width)
        self.query = nn.Linear(vision_width, config.attention_width)
        self.key = nn.Linear(source_width, config.attention_width)
        self.value = nn.Linear(source_width, config.attention_width)
        self.output = nn.Linear(config.attention_width, vision_width)

    def forward(self, semantic: Float[Tensor, "n t c"], spatial: Float[Tensor, "n s d"]) -> Float[Tensor, "n t c"]:
        spatial = self.norm_spatial(spatial)
        query, key, value = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x in (self.query(self.norm_semantic(semantic)), self.key(spatial), self.value(spatial))
        )
        return self.output(attend(query, key, value).transpose(1, 2).flatten(2))


class GatedBranch(CrossAttentionBranch):
    """Cross-attention whose output passes a gate that each semantic token sets for itself."""

    def __init__(self, config: FusionConfig, vision_width: int, source_width: int):
        super().__init__(config, vision_width, source_width)
        self.gate = nn.Linear(vision_width, vision_width)

    def forward(self, semantic: Float[Tensor, "n t c"], spatial: Float[Tensor, "n s d"]) -> Float[Tensor, "n t c"]:
        return torch.sigmoid(self.gate(self.norm_semantic(semantic))) * super().forward(semantic, spatial)


class ConcatBranch(nn.Module):
    """Each semantic token beside the spatial token at its place in the image and the camera token, through an MLP.

    Token grids are square; spatial patches are resampled bilinearly to the semantic grid.
    """

    def __init__(self, config: FusionConfig, vision_width: int, source_width: int):
        super().__init__()
        self.norm_semantic = nn.LayerNorm(vision_width)
        self.norm_spatial = nn.LayerNorm(source_width)
        self.inner = nn.Linear(vision_width + 2 * source_width, config.attention_width)
        self.output = nn.Linear(config.attention_width, vision_width)

    def forward(self, semantic: Float[Tensor, "n t c"], spatial: Float[Tensor, "n s d"]) -> Float[Tensor, "n t c"]:
        camera, patches = self.norm_spatial(spatial).split([1, spatial.shape[1] - 1], dim=1)
        side, source_side = round(semantic.shape[1] ** 0.5), round(patches.shape[1] ** 0.5)
        grid = patches.transpose(1, 2).unflatten(2, (source_side, source_side))
        grid = F.interpolate(grid, size=(side, side), mode="bilinear").flatten(2).transpose(1, 2)
        together = torch.cat([self.norm_semantic(semantic), grid, camera.expand(-1, grid.shape[1], -1)], dim=-1)
        return self.output(F.gelu(self.inner(together)))


BRANCHES = {"cross_attention": CrossAttentionBranch, "gated": GatedBranch, "concat": ConcatBranch}


class SpatialFusion(nn.Module):
    """V_f = dropout(V_sem + alpha * LayerNorm(branch(V_sem, V_spa))), each image with its own spatial tokens.

    control: None, or at evaluation `zero` (spatial tokens are zeros) or `shuffle` (each image gets the tokens of
        another image of the call). It is a setting of the object, not saved.
    """

    def __init__(self, config: FusionConfig, vision_width: int):
        super().__init__()
        self.config = config
        self.control: str | None = None
        source_width = config.spatial_width if config.source == "spatial" else vision_width
        self.branch = BRANCHES[config.kind](config, vision_width, source_width)
        self.norm = nn.LayerNorm(vision_width)
        self.alpha = nn.Parameter(torch.full((), config.alpha_init))
        self.dropout = nn.Dropout(config.dropout)
        self.norm_ratio: Tensor | None = None

    def forward(
        self, semantic: Float[Tensor, "images t c"], spatial: Float[Tensor, "images s d"] | None
    ) -> Float[Tensor, "images t c"]:
        """spatial: camera token first, then the patches row by row; None only where source is `semantic`."""
        if self.config.source == "semantic":
            spatial = torch.cat([semantic.mean(1, keepdim=True), semantic], dim=1)
        branch = self.norm(self.branch(semantic, self._controlled(spatial)))
        if not torch.compiler.is_compiling():
            norms = branch.detach().norm(dim=-1).mean(), semantic.detach().norm(dim=-1).mean()
            self.norm_ratio = norms[0] / norms[1].clamp_min(1e-12)
        return self.dropout(semantic + self.alpha * branch)

    def set_control(self, control: str | None) -> None:
        """See `control` above. ValueError for an unknown one."""
        if control not in CONTROLS:
            raise ValueError(f"fusion control {control!r}: choose one of {', '.join(map(repr, CONTROLS))}")
        self.control = control

    def _controlled(self, spatial: Tensor) -> Tensor:
        if self.control is None:
            return spatial
        if self.control == "zero":
            return torch.zeros_like(spatial)
        if len(spatial) < 2:
            raise ValueError("fusion control 'shuffle' needs at least two images in a call, got one")
        return spatial.roll(len(spatial) // 2, dims=0)

    def diagnostics(self) -> dict[str, float]:
        """alpha, and the mean norm of F over that of V_sem in the last call (NaN before the first)."""
        ratio = float("nan") if self.norm_ratio is None else float(self.norm_ratio)
        return {"alpha": float(self.alpha.detach()), "norm_ratio": ratio}
