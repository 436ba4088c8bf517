"""Where was this patch before? A readout that exists in training only and teaches nano's 3D encoder to match frames.

Points and poses alone teach a small network the depth of each frame long before how frames belong together: a pose is
three steps away from a match, and a wrong match says nothing about a better one (docs/results/cut3r.md).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vipa.worlds.sequences import SequenceBatch

FARTHEST = 4.0
"""Patches; what has moved farther, or is behind the first camera, is not asked."""


class Correspondence(nn.Module):
    """A linear readout of every later frame's patch tokens: how far the point seen at the patch's centre lies, in the
    first frame's picture, from that centre. In patches, (x, y)."""

    def __init__(self, width: int, patch_size: int):
        super().__init__()
        self.patch_size = patch_size
        self.readout = nn.Linear(width, 2)
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def forward(
        self, decoder_tokens: Float[Tensor, "b frames n width"], batch: SequenceBatch
    ) -> Float[Tensor, ""]:
        """Mean distance in patches between the answers and the truth. decoder_tokens: camera token first."""
        truth, known = shifts(batch, self.patch_size)
        answers = self.readout(decoder_tokens[:, 1:, 1:].to(self.readout.weight.dtype)).unflatten(
            2, truth.shape[2:4]
        )
        return ((answers - truth).norm(dim=-1) * known).sum() / known.sum().clamp_min(1)


def shifts(
    batch: SequenceBatch, patch_size: int
) -> tuple[Float[Tensor, "b later rows columns 2"], Bool[Tensor, "b later rows columns"]]:
    """The true shifts of all frames after the first, in patches, and where they are known.

    As if nothing but the camera moved: hands, which move too, are a small part of the picture.
    """
    centres = slice(patch_size // 2, None, patch_size)
    points = batch.points_world[:, 1:, centres, centres]
    valid = batch.valid[:, 1:, centres, centres]
    depth = points[..., 2]
    homogeneous = torch.einsum("bij,bfhwj->bfhwi", batch.K, points)
    pixels = homogeneous[..., :2] / depth[..., None].clamp_min(1e-3)
    y, x = torch.meshgrid(*(torch.arange(n, device=points.device) for n in points.shape[2:4]), indexing="ij")
    shift = (pixels - (torch.stack([x, y], -1) * patch_size + patch_size // 2)) / patch_size
    known = valid & (depth > 1e-3) & (shift.abs() < FARTHEST).all(-1)
    return torch.where(known[..., None], shift, 0.0), known
