"""Which seed belongs to which split; a scene is its seed, so disjoint ranges are disjoint data."""

FOUNDATION = range(0, 10_000_000)
TRAIN = range(10_000_000, 20_000_000)
VALIDATION = range(20_000_000, 30_000_000)
TEST = range(30_000_000, 40_000_000)

SPLITS: dict[str, range] = {
    "foundation": FOUNDATION,
    "train": TRAIN,
    "validation": VALIDATION,
    "test": TEST,
}


def split_of(seed: int) -> str:
    """The split a seed belongs to. ValueError for a seed outside every range."""
    for name, seeds in SPLITS.items():
        if seed in seeds:
            return name
    raise ValueError(f"seed {seed} belongs to no split; known: {_ranges()}")


def seeds_of(split: str) -> range:
    """All seeds of a split. ValueError for an unknown split."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; known: {_ranges()}")
    return SPLITS[split]


def _ranges() -> str:
    return ", ".join(f"{name} {seeds.start}-{seeds.stop - 1}" for name, seeds in SPLITS.items())
