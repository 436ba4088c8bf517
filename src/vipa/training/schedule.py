"""Learning-rate schedule of every training here: linear warm-up, then a half cosine to zero."""

import math


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Factor on the peak learning rate at `step` of `steps`; warmup: fraction of the steps."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
