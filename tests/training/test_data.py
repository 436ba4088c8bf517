"""What real data bring: pictures of several sizes, and other meanings of tokens and words than the model's."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from vipa.benchmarks.answering import ModelAnswerer, Motions, Questions, Translations
from vipa.benchmarks.trajectories_benchmark import StayAnswerer, codec_of, evaluate_trajectories, has_motion
from vipa.data.spec import DataSpec
from vipa.hand3d.config import AnnotateConfig, MotionConfig, RelationsConfig
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.pipeline.annotate import annotate
from vipa.hands.conventions import Conventions
from vipa.hands.motion_codec import MotionCodec
from vipa.models.configuration import vipa_config_of
from vipa.models.starts import load_start
from vipa.nano.shipped import load_nano
from vipa.robots.episodes import Episode
from vipa.robots.known.tabletop import tabletop_contract
from vipa.robots.lerobot_export import EpisodeWriter
from vipa.robots.policy import Observation, VipaPolicy
from vipa.training.loop import train
from vipa.training.runs import STAGE3_PARTS
from vipa.worlds.film import film_clip
from vipa.worlds.seeds import TRAIN

WIDE = MotionCodec((-1.0, -1.0, 0.0), (1.0, 1.0, 2.0))


def clips(*sizes):
    for seed, size in zip(TRAIN, sizes):
        yield replace(film_clip(seed, size=size, seconds=4, rate=5.0), split="train")


@pytest.fixture(scope="module")
def two_sizes(tmp_path_factory):
    """Hand3D of two cameras."""
    out = tmp_path_factory.mktemp("two_sizes")
    report = annotate(clips((112, 112), (160, 90)), out)
    assert report.done == 2
    return out


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Hand3D in a volume twice as wide and with another gamma."""
    out = tmp_path_factory.mktemp("wide")
    config = AnnotateConfig(relations=RelationsConfig(gamma=0.5), motion=MotionConfig(codec=WIDE))
    annotate(clips((112, 112)), out, config)
    return out


class Frames:
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def read(self, indices):
        return self.images[list(indices)]


def episodes(folder, *sizes):
    """Two views of different shape."""
    contract = tabletop_contract(("agent", "observation/wrist"))
    writer = EpisodeWriter(folder, contract, "image")
    rng = np.random.default_rng(0)
    for number in range(2):
        views = {
            view: Frames(rng.integers(0, 256, (6, *size, 3), dtype=np.uint8))
            for view, size in zip(contract.views, sizes)
        }
        state, action = rng.normal(size=(6, 8)), rng.normal(size=(6, 7))
        writer.add(Episode(f"e{number}", views, state, action, "push the cup", contract.rate))
    return folder


def test_pictures_of_two_sizes_are_learned_from_and_asked_about(run, two_sizes):
    images = {Hand3D(two_sizes).image(f.id).shape for f in Hand3D(two_sizes).frames("train")}
    assert images == {(112, 112, 3), (90, 160, 3)}
    spec = DataSpec("hand3d_visual", two_sizes, batch=8, turns=4)
    model = train(replace(run, data=(spec,), steps=2)).model
    answerer = ModelAnswerer(model, two_sizes)
    records = list(Hand3D(two_sizes).visual("train"))
    some = [next(r for r in records if r.clip_id == clip) for clip in sorted({r.clip_id for r in records})]
    assert len(Questions(answerer)(some)) == 2


def test_views_of_two_sizes_train_a_policy_that_acts(run, tmp_path):
    spec = DataSpec("episodes", episodes(tmp_path / "robot", (48, 64), (80, 60)), batch=4, noise_draws=2)
    run = replace(run, data=(spec,), trained=STAGE3_PARTS, steps=2, start="nano:stage2")
    policy = VipaPolicy.from_pretrained(train(run).model)
    images = {v: np.zeros((s, 50, 3), np.uint8) for v, s in zip(policy.contract.views, (48, 80))}
    chunk = policy([Observation(images, np.zeros(8), "push the cup")])
    assert chunk.shape == (1, 8, 7)
    assert policy.contract.action_statistics.count == 2 * (6 + 5 + 4 + 3 + 2 + 1)


def test_a_model_remembers_what_it_learned_by_its_tokens_and_words(run, wide, two_sizes, tmp_path):
    """Stage 1 teaches gamma, stage 2 the codec; each is then refused to change, and evaluations are too."""
    visual = DataSpec("hand3d_visual", wide, batch=4)
    first = train(replace(run, data=(visual,), steps=1, out=tmp_path / "1")).model
    learned = Conventions.from_json(load_start(first)[0].config.conventions, "x")
    assert learned == Conventions(None, 0.5)
    with pytest.raises(ValueError, match=r"gamma .* is 0.5 in the model 1, 0.3 in the data .*two_sizes"):
        Questions(ModelAnswerer(first, two_sizes))
    with pytest.raises(ValueError, match="does not say with what volume"):
        Motions(ModelAnswerer(first, wide))
    with pytest.raises(ValueError, match=r"gamma .* is 0.5 in the start .*, 0.3 in the data .*two_sizes"):
        train(replace(run, start=str(first), data=(replace(visual, path=two_sizes),), out=tmp_path / "1b"))
    action = DataSpec("hand3d_action", wide, batch=4)
    second = train(replace(run, start=str(first), data=(action,), steps=1, out=tmp_path / "2")).model
    assert load_start(second)[0].config.conventions == Conventions(WIDE, 0.5).to_json()
    answerer = ModelAnswerer(second, wide)
    some = [r for r in Hand3D(wide).action("train") if has_motion(r)][:2]
    read = [WIDE.from_text(text) for text in Motions(answerer)(some)]
    assert [set(said) for said in read] == [set(r.trajectories) for r in some]
    for wrong in (Motions, Translations):
        with pytest.raises(
            ValueError, match=r"x -1..1, y -1..1, z 0..2 m in 1024 bins in the model 2, x -0.5..0.5"
        ):
            wrong(ModelAnswerer(second, two_sizes))
    both = (replace(action, path=two_sizes),)
    with pytest.raises(ValueError, match=r"codec \(volume and bins of motion tokens\) is .* in the start"):
        train(replace(run, start=str(second), data=both, out=tmp_path / "2b"))


def test_components_of_one_run_must_mean_the_same(run, wide, two_sizes):
    data = (DataSpec("hand3d_action", two_sizes, batch=2), DataSpec("hand3d_action", wide, batch=2))
    with pytest.raises(ValueError, match="codec"):
        train(replace(run, data=data))
    data = (DataSpec("hand3d_visual", two_sizes, batch=2), DataSpec("hand3d_visual", wide, batch=2))
    with pytest.raises(ValueError, match="gamma"):
        train(replace(run, data=data))


def test_more_bins_than_the_vocabulary_has_are_refused(run, tmp_path):
    config = AnnotateConfig(motion=MotionConfig(codec=MotionCodec(bins=2048)))
    annotate(clips((112, 112)), tmp_path / "fine", config)
    spec = DataSpec("hand3d_action", tmp_path / "fine", batch=2)
    with pytest.raises(ValueError, match=r"2048 bins an axis, the vocabulary of .* has 1024"):
        train(replace(run, data=(spec,)))


def test_the_true_answers_of_any_volume_err_by_half_a_bin(wide, tmp_path):
    """In the volume of another data set they would err by 0.28 m."""
    data = Hand3D(wide)
    assert data.conventions == Conventions(WIDE, 0.5)

    class Truth:
        name, identity = "truth", {"baseline": "truth"}

        def __call__(self, records):
            return [r.response for r in records]

    truth = evaluate_trajectories(Truth(), wide, tmp_path / "truth.json", split="train")
    assert truth.average_error.value < np.sqrt(3) * 2 / 1024 / 2
    stay = evaluate_trajectories(StayAnswerer(codec_of(data)), wide, tmp_path / "stay.json", split="train")
    assert truth.average_error.value < stay.average_error.value < 0.5


def test_clips_of_an_earlier_annotation_with_other_tokens_do_not_join_a_data_set(wide, tmp_path):
    shutil.copytree(wide, tmp_path / "both")
    other = replace(film_clip(TRAIN[1], seconds=4, rate=5.0), split="train")
    for config, said in (
        (AnnotateConfig(), "gamma 0.5, now 0.3"),
        (AnnotateConfig(relations=RelationsConfig(gamma=0.5)), "another codec"),
    ):
        with pytest.raises(ValueError, match=f"was annotated before with {said}"):
            annotate([other], tmp_path / "both", config)


def test_a_manifest_that_does_not_say_its_codec_is_refused(wide, tmp_path):
    shutil.copytree(wide, tmp_path / "old", ignore=shutil.ignore_patterns("work"))
    path = tmp_path / "old" / "hand3d.json"
    manifest = json.loads(path.read_text())
    del manifest["config"]["motion"]["codec"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"hand3d.json: does not say 'codec'"):
        _ = Hand3D(tmp_path / "old").conventions


def test_the_card_and_an_export_say_what_tokens_mean(wide, tmp_path):
    from vipa.hand3d.export.conversations import export_conversations

    card = (wide / "README.md").read_text()
    assert "x -1 to 1, y -1 to 1, z 0 to 2 metres" in card
    assert "exceeds 0.5" in card
    export_conversations(wide, tmp_path)
    said = json.loads((tmp_path / "conventions.json").read_text())
    assert Conventions.from_json(said, "x") == Conventions(WIDE, 0.5)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("foundation", Conventions()),
        ("stage1", Conventions(None, 0.3)),
        ("stage2", Conventions(MotionCodec(), 0.3)),
        ("stage3", Conventions(MotionCodec(), 0.3)),
    ],
)
def test_shipped_stages_say_what_they_learned(stage, said):
    assert Conventions.from_json(load_nano(stage)[0].config.conventions, stage) == said


def test_parts_of_a_trained_model_keep_what_it_learned():
    config = load_nano("stage2")[0].config
    assert vipa_config_of(config, None, {"kind": "none"}).conventions == config.conventions


def test_a_configuration_with_half_a_codec_is_named():
    with pytest.raises(ValueError, match="here: its conventions"):
        Conventions.from_json({"codec": {"low": [0, 0], "high": [1, 1, 1], "bins": 4}, "gamma": 0.3}, "here")
