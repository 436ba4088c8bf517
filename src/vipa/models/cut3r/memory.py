"""The pose retriever: a local memory that gives later frames their pose token."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vipa.models.cut3r.configuration_cut3r import Cut3rConfig
from vipa.models.cut3r.layers import DecoderBlock


class PoseRetriever(nn.Module):
    """Memory of (key, value) slots: the key half speaks of a frame's look, the value half of its pose token.

    Both ways go through decoder blocks of twice the decoder's width, without positions.
    """

    def __init__(self, config: Cut3rConfig):
        super().__init__()
        width = 2 * config.decoder_width
        self.masked_token = nn.Parameter(torch.zeros(1, 1, config.decoder_width))
        self.mem = nn.Parameter(torch.zeros(1, config.memory_size, width))
        self.proj_q = nn.Linear(config.encoder_width, config.decoder_width)

        def blocks() -> nn.ModuleList:
            sizes = (width, config.decoder_heads, config.mlp_ratio)
            return nn.ModuleList(DecoderBlock(*sizes) for _ in range(config.memory_depth))

        self.write_blocks, self.read_blocks = blocks(), blocks()

    def initial(self, batch: int) -> Float[Tensor, "b slots c2"]:
        """The learned memory before any frame."""
        return self.mem.expand(batch, -1, -1)

    def key(self, feature: Float[Tensor, "*b e"]) -> Float[Tensor, "*b c"]:
        """The key of a frame from the mean of its encoder tokens."""
        return self.proj_q(feature)

    def read(self, key: Float[Tensor, "b c"], memory: Float[Tensor, "b slots c2"]) -> Float[Tensor, "b c"]:
        """The pose token that the memory expects for a frame with this key."""
        x = torch.cat([key[:, None], self.masked_token.expand(len(key), -1, -1)], -1)
        for block in self.read_blocks:
            x = block(x, memory)
        return x[:, 0].chunk(2, -1)[1]

    def write(
        self, memory: Float[Tensor, "b slots c2"], key: Float[Tensor, "b c"], pose_token: Float[Tensor, "b c"]
    ) -> Float[Tensor, "b slots c2"]:
        """The memory after a frame with this key came out with this pose token."""
        item = torch.cat([key, pose_token], -1)[:, None]
        for block in self.write_blocks:
            memory = block(memory, item)
        return memory
