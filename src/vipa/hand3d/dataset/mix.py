"""Which of all records go into the data set: splits, limits on what is alike, shares by kind and source."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from vipa.hand3d.config import MixConfig
from vipa.io.hashing import digest


def split_of(config: MixConfig, source: str, source_video: str) -> str:
    """The split of a source video that its data set leaves open; clips of one recording never part."""
    u = int(digest(f"split {config.seed} {source} {source_video}"), 16) / 16**16
    if u < config.test:
        return "test"
    return "validation" if u < config.test + config.validation else "train"


def splits(config: MixConfig, clips: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Split by clip id, from rows with id, source, source_video and split (None: open). A data set's own splits
    hold for the whole recording; ValueError where they divide one."""
    given: dict[tuple[str, str], str] = {}
    rows = list(clips)
    for row in rows:
        video = row["source"], row["source_video"]
        if row["split"] is not None and given.setdefault(video, row["split"]) != row["split"]:
            raise ValueError(
                f"source video {video[1]!r} of {video[0]!r} is in the splits {given[video]} and {row['split']}: "
                "clips of one recording must share a split"
            )
    return {
        row["id"]: given.get((row["source"], row["source_video"]))
        or split_of(config, row["source"], row["source_video"])
        for row in rows
    }


def select_visual(config: MixConfig, rows: Iterable[dict[str, Any]]) -> set[str]:
    """Ids to keep of rows with id, clip_id, source, split, category, hand, object and directions."""
    kept = limit_alike(config, rows)
    kept = limit_common(config, kept)
    return {row["id"] for row in by_shares(config, kept, "category", config.visual_shares)}


def select_action(config: MixConfig, rows: Iterable[dict[str, Any]]) -> set[str]:
    """Ids to keep of rows with id, source, split and task."""
    return {row["id"] for row in by_shares(config, list(rows), "task", config.action_shares)}


def limit_alike(config: MixConfig, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most `most_alike` records of a clip with the same category, hand, object and direction words."""
    groups = defaultdict(list)
    for row in rows:
        key = row["clip_id"], row["category"], row["hand"], row["object"], tuple(row["directions"])
        groups[key].append(row)
    return [row for group in groups.values() for row in _shuffled(config, group)[: config.most_alike]]


def limit_common(config: MixConfig, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """No combination of direction words holds more than `most_common` of its category and split."""
    if config.most_common >= 1.0:
        return rows
    groups = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row["split"], row["category"]][tuple(row["directions"])].append(row)
    kept = []
    for directions in groups.values():
        limit = _fair_limit([len(group) for group in directions.values()], config.most_common)
        kept += [row for group in directions.values() for row in _shuffled(config, group)[:limit]]
    return kept


def by_shares(
    config: MixConfig, rows: list[dict[str, Any]], key: str, shares: dict[str, float] | None
) -> list[dict[str, Any]]:
    """As many records as the shares by `key` and by source allow, in each split. Kinds without a share are left
    out; shares of kinds that do not occur are divided among the others."""
    for field, wanted in ((key, shares), ("source", config.source_shares)):
        if wanted is None:
            continue
        by_split = defaultdict(lambda: defaultdict(list))
        for row in rows:
            if wanted.get(row[field], 0.0) > 0.0:
                by_split[row["split"]][row[field]].append(row)
        rows = []
        for kinds in by_split.values():
            total = sum(wanted[kind] for kind in kinds)
            size = min(len(group) * total / wanted[kind] for kind, group in kinds.items())
            for kind, group in kinds.items():
                rows += _shuffled(config, group)[: max(1, round(size * wanted[kind] / total))]
    return rows


def composition(rows: Iterable[dict[str, Any]], key: str) -> dict[str, int]:
    """Counts by a column, most common first."""
    return dict(Counter(str(row[key]) for row in rows).most_common())


def _shuffled(config: MixConfig, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In an order that depends on ids and the seed only."""
    return sorted(rows, key=lambda row: digest(f"{config.seed} {row['id']}"))


def _fair_limit(sizes: list[int], share: float) -> int:
    """The largest cap under which no group exceeds this share of what is kept (or what evenness allows)."""
    share = max(share, 1.0 / len(sizes))
    low, high = 1, max(sizes)
    while low < high:
        middle = (low + high + 1) // 2
        if max(min(size, middle) for size in sizes) <= share * sum(min(size, middle) for size in sizes) + 1e-9:
            low = middle
        else:
            high = middle - 1
    return low
