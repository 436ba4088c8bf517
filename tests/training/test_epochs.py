"""One epoch of pairs is each pair once, whatever the packs; a step is a pure function of its number."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from vipa.data.hand3d_turns import hand3d_turns
from vipa.data.mixture import Mixture, Share
from vipa.data.spec import DataSpec
from vipa.data.turn_index import Pair, TurnIndex
from vipa.data.turns import Turns, drawn_by_category
from vipa.hands.conventions import Conventions
from vipa.io.cache import cache_folder
from vipa.models.packing import Conversation
from vipa.training.known import TRAININGS


@dataclass
class Packs:
    """Stands where the packer does, and keeps what it was given."""

    turn_slots = input_ids = position_ids = attention_mask = labels = None
    num_turns: int = 0
    packs: tuple[Conversation, ...] = ()

    def __call__(self, conversations):
        return Packs(sum(len(c.turns) for c in conversations), tuple(conversations))


class Seen(Turns):
    """Turns that gives its packs as its inputs."""

    def items(self, inputs):
        return {"text": 1.0}

    def inputs(self, rows, draws):
        given = []
        keep = self.packer
        self.packer = lambda packs: given.append(keep(packs)) or given[-1]
        _, groups, samples = super().inputs(rows, draws)
        self.packer = keep
        assert groups == [pack.images for pack in given[0].packs]
        return {"packs": given[0].packs}, groups, samples


class NoImages:
    def read(self, group):
        pass

    def inputs(self, groups, moment):
        return {}


def component(sizes, batch, turns, temperature=1.0):
    """Groups g0, g1, ... with so many pairs each; the first words of a question name its category."""
    rows = [
        Pair((f"g{i}",), f"kind {t % 3}: {i}/{t}", "answer", f"kind {t % 3}")
        for i, size in enumerate(sizes)
        for t in range(size)
    ]
    index = TurnIndex.made(cache_folder("test", "-".join(map(str, sizes))), lambda: [rows])
    spec = DataSpec("hand3d_visual", Path("x"), batch=batch, turns=turns, temperature=temperature)
    return Seen(spec, index, lambda group: [], Packs(), Conventions())


def mixture(*components, seed=0, share=Share()):  # noqa: B008
    return Mixture([(c, NoImages()) for c in components], seed, share)


def pairs(packs):
    return [question for pack in packs for question, _ in pack.turns]


def packs_of(mixed, step):
    """Of the first component, all micro-batches."""
    return [pack for batches in mixed.step(step) for pack in batches[0].inputs["packs"]]


SIZES = (1, 30, 4, 1, 9, 2, 17)  # 64 pairs


@pytest.mark.parametrize("batch", [1, 7, 8, 32, 50])
@pytest.mark.parametrize("turns", [1, 4, 100])
def test_an_epoch_passes_each_pair_once_and_batches_run_across_its_border(batch, turns):
    data = component(SIZES, batch, turns)
    mixed = mixture(data)
    steps = -(-3 * len(data) // batch)
    packs = [packs_of(mixed, step) for step in range(steps)]
    assert {sum(len(pack.turns) for pack in some) for some in packs} == {batch}, "every step has as many pairs"
    assert all(1 <= len(pack.turns) <= turns for some in packs for pack in some)
    for some in packs:
        for pack in some:
            assert {q.split(": ")[1].split("/")[0] for q, _ in pack.turns} == {pack.images[0][1:]}
    seen = [question for some in packs for question in pairs(some)]
    everything = [data.index.turn(row)[0] for row in range(len(data))]
    epochs = [seen[e * 64 : (e + 1) * 64] for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == sorted(everything)
        shares = Counter(q.split(":")[0] for q in epoch)
        assert shares == Counter(q.split(":")[0] for q in everything)
    assert epochs[0] != epochs[1] != epochs[2]
    assert mixed.epochs(steps)[0] == pytest.approx(steps * batch / 64)


def test_packs_are_of_about_equal_size_and_pairs_change_company():
    data = component((9, 30), batch=39, turns=8)
    (inputs, _, _), (again, _, _) = (data.inputs(data.order(np.random.default_rng(seed)), []) for seed in (0, 1))
    sizes = {name: sorted(len(p.turns) for p in inputs["packs"] if p.images == (name,)) for name in ("g0", "g1")}
    assert sum(sizes["g0"]) == 9
    assert sum(sizes["g1"]) == 30
    assert max(sizes["g1"]) <= 8
    company = [{frozenset(q for q, _ in pack.turns) for pack in x["packs"]} for x in (inputs, again)]
    assert company[0] != company[1]


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0, np.inf])
def test_shares_of_categories_go_with_a_power_of_their_counts(temperature):
    counts = np.array([1000, 100, 10, 1])
    categories = np.random.default_rng(0).permutation(np.repeat(np.arange(4), counts))
    rows, again = drawn_by_category(categories, temperature, np.random.default_rng(1))
    assert len(rows) == len(categories)
    shares = counts ** (1 / temperature) / (counts ** (1 / temperature)).sum()
    found = np.bincount(categories[rows], minlength=4)
    assert np.abs(found - shares * len(rows)).max() <= 1
    for category, count in enumerate(counts):  # no pair comes again before all of its category have come
        mine = categories[rows] == category
        times = Counter(rows[mine].tolist())
        assert max(times.values()) - min(times.values()) <= 1 or len(times) < count
        assert len(times) == min(count, found[category])
        assert again[mine].max() == -(-found[category] // count) - 1
    assert len(set(zip(rows.tolist(), again.tolist()))) == len(rows)


def test_rare_categories_are_seen_more_often_and_no_pack_holds_a_pair_twice():
    data = component((5, 5, 5, 1, 1, 1, 1, 1, 1, 1, 1), batch=23, turns=3, temperature=np.inf)
    epoch = data.order(np.random.default_rng(0))
    shares = Counter(data.index.turn(int(row))[0].split(":")[0] for row in epoch)
    assert max(shares.values()) - min(shares.values()) <= 1
    asked = [[q for q, _ in pack.turns] for pack in data.inputs(epoch, [])[0]["packs"]]
    assert all(len(set(turns)) == len(turns) <= 3 for turns in asked)


@pytest.mark.parametrize("temperature", [0.0, 0.5, float("nan")])
def test_a_temperature_below_one_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be at least 1"):
        DataSpec("hand3d_visual", Path("x"), batch=1, temperature=temperature)


def test_a_step_follows_from_its_number_alone():
    first, second = (mixture(component(SIZES, 10, 4), component(SIZES, 6, 2)) for _ in range(2))
    for step in (13, 2, 40, 0):
        assert pairs_of(first, step) == pairs_of(second, step)
    assert pairs_of(first, 3) != pairs_of(mixture(component(SIZES, 10, 4), component(SIZES, 6, 2), seed=1), 3)


def pairs_of(mixed, step):
    return [pairs(batch.inputs["packs"]) for batches in mixed.step(step) for batch in batches]


@pytest.mark.parametrize(("world", "parts"), [(1, 1), (1, 5), (3, 1), (2, 4)])
def test_processes_and_micro_batches_share_out_the_same_step(world, parts):
    whole = mixture(component(SIZES, 10, 4))
    shares = [mixture(component(SIZES, 10, 4), share=Share(rank, world, parts)) for rank in range(world)]
    for step in (0, 5, 40):
        mine = [pairs(packs_of(share, step)) for share in shares]
        assert [question for share in mine for question in share] == pairs(packs_of(whole, step))
        assert all(mine), "nobody is left without rows"
    with pytest.raises(ValueError, match="cannot be shared out to 3 processes"):
        mixture(component(SIZES, 10, 4), share=Share(0, 3, 4))


def test_rows_whose_images_cannot_be_read_are_replaced_and_reported():
    class Broken(NoImages):
        def __init__(self, *broken):
            self.broken = broken

        def read(self, group):
            if group[0] in self.broken:
                raise OSError(f"{group[0]}: damaged")

    data = component(SIZES, 10, 4)
    mixed = Mixture([(data, Broken("g1", "g6"))], seed=0)
    batches = [mixed.step(step)[0][0] for step in range(20)]
    read = [pack.images[0] for batch in batches for pack in batch.inputs["packs"]]
    assert not {"g1", "g6"} & set(read)
    assert all(batch.samples == 10 for batch in batches)
    reasons = [why for batch in batches for why in batch.replaced]
    assert len(reasons) > 60  # 47 of 64 rows are of those two groups
    assert all("damaged" in why and "row" in why for why in reasons)
    with pytest.raises(ValueError, match="nor could the 19 rows tried in its place"):
        Mixture([(data, Broken(*(f"g{i}" for i in range(7))))], seed=0).step(0)


@pytest.mark.parametrize("table", ["visual", "action"])
def test_an_epoch_of_a_filmed_data_set_has_its_records_and_shares(hand3d_path, table):
    from vipa.hand3d.dataset.reader import Hand3D

    data = Hand3D(hand3d_path)
    records = list(data.visual("train") if table == "visual" else data.action("train"))
    spec = DataSpec(f"hand3d_{table}", hand3d_path, batch=16, turns=4)
    turns = hand3d_turns(spec, table, Packs())
    assert len(turns) == len(records)
    texts = Counter((r.question, r.answer) if table == "visual" else (r.prompt, r.response) for r in records)
    order = turns.order(np.random.default_rng(0))
    passed = [turns.index.turn(int(row)) for row in order]
    assert Counter(passed) == texts
    images = {(r.question, r.answer): tuple(r.frame_ids) for r in records} if table == "visual" else {}
    if table == "visual":
        assert all(turns.group(row) == images[turns.index.turn(row)] for row in range(len(turns)))
    category = {(r.question, r.answer) if table == "visual" else (r.prompt, r.response): r for r in records}
    number = {}
    for row, code in enumerate(turns.index.categories()):
        record = category[turns.index.turn(row)]
        name = record.category if table == "visual" else record.task
        assert number.setdefault(name, code) == code
    assert len(set(number.values())) == len(number) > 1


@pytest.mark.parametrize(("stage", "samples"), [("stage1", 300_368), ("stage2", 1_030_850)])
def test_the_paper_sized_stages_are_one_epoch_of_the_papers_pairs(stage, samples):
    run = TRAININGS.load(stage).make(Path("x"), Path("y"), "vipa-2b", "z")
    spec = run.data[0]
    assert spec.turns == 1
    assert (run.steps - 1) * spec.batch < samples <= run.steps * spec.batch
