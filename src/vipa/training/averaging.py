"""A moving average of what learns, which becomes the model at the end."""

import torch
from torch import nn


class MovingAverage:
    """decay: of the old average in each step. The average begins at the first weights."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float):
        self.parameters, self.decay = parameters, decay
        self.average = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - self.decay)

    @torch.no_grad()
    def put(self) -> None:
        """Into the parameters."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.average[name])
