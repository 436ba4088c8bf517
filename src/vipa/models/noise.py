"""Random numbers of the model, wherever its tensors live."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def draw(
    function: Callable[..., Tensor],
    *shape: int,
    device: torch.device | str,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*shape"]:
    """float32 numbers on `device` from `torch.rand` or `torch.randn`.

    generator: may be of another device, and then draws there: a CPU's numbers are the same with every accelerator.
    """
    source = device if generator is None else generator.device
    return function(*shape, generator=generator, device=source, dtype=torch.float32).to(device)
