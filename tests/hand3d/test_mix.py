from collections import Counter

import pytest

from vipa.hand3d.config import PAPER_TABLE_1, MixConfig
from vipa.hand3d.dataset.mix import by_shares, limit_alike, limit_common, select_visual, split_of, splits


def rows(n=1000, **fields):
    kinds = ("spatial_relation", "task_completion", "hand_movement", "camera_movement")
    return [
        {
            "id": f"r{i}", "clip_id": f"c{i // 50}", "source": "arctic", "split": "train", "category": kinds[i % 4],
            "hand": "left", "object": "cup", "directions": ["up"] if i % 3 else ["left", "down"], **fields,
        }
        for i in range(n)
    ]  # fmt: skip


def test_shares_are_met_with_as_many_records_as_possible():
    wanted = {"spatial_relation": 0.5, "task_completion": 0.25, "hand_movement": 0.25}
    kept = Counter(row["category"] for row in by_shares(MixConfig(), rows(), "category", wanted))
    assert kept == {"spatial_relation": 250, "task_completion": 125, "hand_movement": 125}


def test_the_papers_mix_is_a_preset():
    kept = by_shares(PAPER_TABLE_1, rows(4000), "category", PAPER_TABLE_1.visual_shares)
    counts = Counter(row["category"] for row in kept)
    total = sum(counts.values())
    for kind, share in PAPER_TABLE_1.visual_shares.items():
        assert abs(counts[kind] / total - share) < 0.0015
    assert abs(sum(PAPER_TABLE_1.source_shares.values()) - 1) < 0.002


def test_what_is_alike_in_one_clip_is_limited():
    kept = limit_alike(MixConfig(most_alike=2), rows())
    assert max(Counter((r["clip_id"], r["category"], tuple(r["directions"])) for r in kept).values()) == 2


def test_no_direction_prevails_where_that_is_asked():
    kept = limit_common(MixConfig(most_common=0.5), rows(999))
    for category in {row["category"] for row in kept}:
        counts = Counter(tuple(r["directions"]) for r in kept if r["category"] == category)
        assert max(counts.values()) <= 0.5 * sum(counts.values()) + 1


def test_the_order_of_records_does_not_matter():
    config = MixConfig(
        most_alike=3, most_common=0.5, visual_shares={"spatial_relation": 0.7, "hand_movement": 0.3}
    )
    assert select_visual(config, rows()) == select_visual(config, rows()[::-1])


def test_splits_follow_the_recording():
    config = MixConfig(test=0.2, validation=0.2)
    shares = Counter(split_of(config, "a", str(i)) for i in range(3000))
    assert abs(shares["test"] / 3000 - 0.2) < 0.03
    assert abs(shares["validation"] / 3000 - 0.2) < 0.03
    clips = [{"id": f"{i}", "source": "a", "source_video": "v", "split": s} for i, s in enumerate((None, "test"))]
    assert splits(config, clips) == {"0": "test", "1": "test"}
    with pytest.raises(ValueError, match="must share a split"):
        splits(config, [*clips, {"id": "2", "source": "a", "source_video": "v", "split": "train"}])
