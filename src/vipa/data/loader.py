"""Steps of a mixture, made ahead of the training by other processes.

torch's DataLoader over a sampler that is a plain range of steps: a step is a pure function of its number, so there is
no state of a loader to save.
"""

from collections.abc import Iterator

from torch.utils.data import DataLoader, Dataset

from vipa.data.mixture import Batch, Mixture

AHEAD = 4
"""Steps that each process makes ahead."""


class Steps(Dataset):
    """Step number -> its micro-batches."""

    def __init__(self, mixture: Mixture):
        self.mixture = mixture

    def __getitem__(self, step: int) -> list[list[Batch]]:
        return self.mixture.step(step)


def steps_of(
    mixture: Mixture, start: int, stop: int, workers: int = 0, pin: bool = False
) -> Iterator[list[list[Batch]]]:
    """The micro-batches of the steps start .. stop. workers: processes that read, decode, tokenise and pack (0: this
    one does, when it is asked). pin: into memory that a GPU copies from quickly."""
    loader = DataLoader(
        Steps(mixture),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        collate_fn=_as_it_is,
        pin_memory=pin,
    )
    return iter(loader)


def _as_it_is(step: list[list[Batch]]) -> list[list[Batch]]:
    return step
