"""What does not fit the checkpoint is refused; records that cannot be read are reported, replaced and counted."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from small_robots import small_contract, write_demonstrations
from vipa.data.spec import DataSpec
from vipa.models.starts import load_start
from vipa.nano.sizes import nano_processor
from vipa.robots.contract import CONTRACT, ActionContract
from vipa.training.known import stage3
from vipa.training.loop import train


def test_another_tokenizer_than_the_models_is_refused(start, tmp_path):
    folder = tmp_path / "start"
    shutil.copytree(start, folder)
    _, processor = load_start(folder)
    processor.tokenizer.add_tokens(["<one more>"])  # at the end: the others keep their numbers
    processor.save_pretrained(folder)
    load_start(folder)
    from vipa.hands.motion_codec import MotionCodec
    from vipa.nano.foundation.tokenizer import train_tokenizer

    other = train_tokenizer(["where is the cup"] * 50, vocabulary=300)
    other.add_tokens(MotionCodec().tokens)
    nano_processor(other).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"its tokenizer is not the one that the model learned with: .* was \d+"):
        load_start(folder)


def test_a_robot_that_was_learned_otherwise_is_refused(tmp_path):
    arm = write_demonstrations(tmp_path / "arm", small_contract("arm", 4, 3), 1)

    def run(data, out, start=None, **changes):
        made = stage3.make((data,), tmp_path / out, start=start)
        spec = replace(made.data[0], batch=2, noise_draws=1, **changes)
        return replace(made, data=(spec,), steps=1, threads=1)

    policy = str(train(run(arm, "first")).model)
    more = write_demonstrations(tmp_path / "more", small_contract("arm", 4, 3), 2)
    with pytest.raises(ValueError, match="learned 'arm' normalised by other statistics than the data's"):
        train(run(more, "other", policy))
    with pytest.raises(ValueError, match="learned 'arm' normalised by other statistics"):
        train(run(arm, "scheme", policy, normalisation="mean_std"))
    learned = Path(policy) / CONTRACT
    went_on = train(run(more, "same", policy, statistics=learned)).model
    assert ActionContract.load(went_on / CONTRACT) == ActionContract.load(learned)
    fast = write_demonstrations(tmp_path / "fast", small_contract("arm", 4, 3, rate=50.0), 1)
    with pytest.raises(ValueError, match=r"another contract of 'arm' than the data's \(rate: 50.0 against"):
        train(run(fast, "fast", policy))


def with_broken_images(data, folder, share):
    """A copy of a Hand3D folder in which a share of the images are no images."""
    shutil.copytree(data, folder, ignore=shutil.ignore_patterns("work"))
    for path in (folder / "frames").glob("*.parquet"):
        table = pq.read_table(path)
        images = table["image"].to_pylist()
        for image in images[: max(1, int(share * len(images)))]:
            image["bytes"] = b"not a picture"
        place = table.column_names.index("image")
        table = table.set_column(place, "image", pa.array(images, table.schema.field("image").type))
        pq.write_table(table, path, row_group_size=32)
    return folder


@pytest.mark.parametrize("images", ["pixels", pytest.param("tokens", marks=pytest.mark.slow)])
def test_images_that_cannot_be_read_are_reported_replaced_and_counted_and_too_many_end_the_run(
    run, hand3d_path, tmp_path, images, caplog
):
    few = with_broken_images(hand3d_path, tmp_path / "few", 0.0)
    spec = DataSpec("hand3d_visual", few, batch=16)
    run = replace(run, data=(spec,), images=images, steps=4, precision="fp32", log_every=4)
    train(run)
    line = json.loads((run.out / "log.jsonl").read_text().splitlines()[-1])
    assert 1 <= line["unreadable"] <= 3
    assert caplog.text.count("another row in its place") == line["unreadable"]
    many = replace(spec, path=with_broken_images(hand3d_path, tmp_path / "many", 0.5))
    with pytest.raises(ValueError, match=r"\d+ of \d+ rows could not be read: .*many: row \d+"):
        train(replace(run, data=(many,), out=tmp_path / "ended"))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("questions", "expected kind=folder"),
        ("episodes=x", "expected kind=folder"),
        ("poems=x", "data of kind 'poems'"),
    ],
)
def test_what_stage_3_also_learns_from_is_a_kind_and_a_folder(said, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        stage3.make(tmp_path, tmp_path / "out", also=(said,))
