"""Where a hand goes next: hands on paths of known stops, the tabletop's films, real recordings."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from vipa.clips.clip import ClipError, Hand, Text
from vipa.clips.example import example_clip
from vipa.clips.reading import chunks
from vipa.clips.sources import SourceOptions, load_source
from vipa.clips.video import ArrayFrames
from vipa.geometry import invert, transform
from vipa.hand3d.config import GoalsConfig, HandsConfig, RelationsConfig
from vipa.hand3d.measure.goals import TaskGoals, mentioned_names
from vipa.hand3d.measure.relating import ClipGeometry, task_completions
from vipa.hand3d.measure.visibility import Sight
from vipa.hand3d.measure.wrists import locate_hands, wrist_path
from vipa.worlds.film import film_clip
from vipa.worlds.motions import minimum_jerk
from vipa.worlds.seeds import seeds_of

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real" / "egodex_sample"
REST, CUP, PLATE = np.array([0.1, 0.3, 0.4]), np.array([0.0, 0.15, 0.6]), np.array([-0.25, 0.1, 0.55])
RATE = 30.0


def visits(*stays: tuple[np.ndarray, float, float], seconds: float) -> np.ndarray:
    """(frames, 3): a wrist that stays at each place from a time to a time, and moves smoothly in between."""
    t = np.arange(round(seconds * RATE)) / RATE
    path = np.tile(stays[0][0], (len(t), 1)).astype(float)
    for (a, _, leave), (b, arrive, _) in pairwise(stays):
        path += minimum_jerk((t - leave) / (arrive - leave))[:, None] * (b - a)
    return path


def clip_of(wrists: dict, text: Text, jitter: float = 0.0):
    """The example's moving camera before hands whose wrists go along these paths."""
    n, rng = len(next(iter(wrists.values()))), np.random.default_rng(0)
    clip = example_clip(seconds=n / RATE, rate=RATE)
    hands = []
    for side, path in wrists.items():
        path = path + rng.normal(0, jitter, path.shape)
        bones = np.concatenate([np.zeros((1, 3)), np.full((20, 3), 0.02)])
        joints = transform(invert(clip.T_world_camera), path[:, None] + bones)
        hands.append(Hand(side, joints, np.isfinite(joints).all(-1).astype(float)))
    frames = ArrayFrames(np.zeros((n, 48, 64, 3), np.uint8))
    return replace(clip, frames=frames, hands=tuple(hands), contacts=None, objects=None, texts=(text,))


def task_goals(clip, names: list[str]) -> TaskGoals:
    paths = {hand.side: wrist_path(clip, hand, HandsConfig()).points for hand in clip.hands}
    return TaskGoals(clip, names, paths, GoalsConfig())


def goals_of(clip, side="right", every: int = 3) -> dict[int, int]:
    goals = task_goals(clip, [])
    found = {f: goals.goal(side, clip.texts[0], f) for f in range(0, len(clip), every)}
    assert all(g.kind == "stop" and g.object is None for g in found.values() if g)
    return {f: g.frame for f, g in found.items() if g}


PICK = visits((REST, 0, 0.5), (CUP, 1.3, 1.8), (PLATE, 2.6, 3.0), (REST + 0.02, 3.9, 5.0), seconds=5)


@pytest.mark.parametrize("jitter", [0.0, 0.003])
def test_the_goal_is_the_next_place_where_the_hand_works_and_never_the_rest_that_it_goes_back_to(jitter):
    goals = goals_of(clip_of({"right": PICK}, Text("pick up the cup", 0.0, 5.0), jitter))
    for frame, goal in goals.items():
        place, at = (CUP, 1.3) if goal < 1.5 * RATE else (PLATE, 2.6)
        assert (place is CUP) == (frame < 1.1 * RATE) or 1.1 * RATE <= frame < 1.3 * RATE  # it arrives just then
        assert np.linalg.norm(PICK[goal] - place) < 0.02
        assert abs(goal / RATE - at) < 0.2
        assert frame < 2.6 * RATE
    assert min(goals) == 0
    assert max(goals) > 2.2 * RATE


def test_a_recording_that_ends_on_the_way_home_or_short_of_it_has_no_goal_there():
    for seconds, home in ((3.5, REST), (5.0, REST + [0.0, -0.08, 0.0]), (5.0, REST)):
        path = visits((REST, 0, 0.5), (PLATE, 1.5, 2.4), (home, 3.6, 5.0), seconds=seconds)
        goals = goals_of(clip_of({"right": path}, Text("press the button", 0.0, seconds)))
        assert set(goals.values()) <= set(range(round(1.3 * RATE), round(1.6 * RATE)))
        assert max(goals) < 1.6 * RATE


def test_a_pause_on_the_straight_way_back_is_no_goal():
    path = visits(
        (REST, 0, 0.3), (PLATE, 1.2, 2.0), (0.35 * REST + 0.65 * PLATE, 2.5, 2.9), (REST, 3.6, 5), seconds=5
    )
    assert max(goals_of(clip_of({"right": path}, Text("press the button", 0.0, 5.0)))) < 1.3 * RATE


def test_gaps_are_bridged_where_they_are_short_and_end_the_search_where_they_are_long():
    for gap, known in ((0.2, True), (1.0, False)):
        path = PICK.copy()
        path[round(0.7 * RATE) : round((0.7 + gap) * RATE)] = np.nan
        goals = goals_of(clip_of({"right": path}, Text("pick up the cup", 0.0, 5.0)))
        assert (0 in goals) == known


def test_no_goal_lies_at_a_cut_and_none_goes_back_to_a_rest_before_it():
    clip = clip_of({"right": PICK}, Text("pick up the cup", 0.0, 5.0))
    for seconds in (1.0, 1.5, 2.0, 2.5, 3.0):
        for piece in chunks(clip, seconds):
            if isinstance(piece, ClipError):
                continue  # the hand at rest is out of view
            begin = round(-piece.texts[0].start * RATE)
            for frame, goal in goals_of(piece).items():
                place = PICK[begin + goal]
                assert min(np.linalg.norm(place - p) for p in (CUP, PLATE)) < 0.03
                assert goal < len(piece) - 1
                assert frame < goal


def test_the_idle_hand_is_not_asked_about_and_a_named_one_is():
    drift = visits((CUP, 0, 1), (CUP + [0.045, 0, 0], 2, 5), seconds=5)
    for text, sides in (
        (Text("pick up the cup", 0.0, 5.0), {"right"}),
        (Text("pick up the cup with the left hand", 0.0, 5.0), set()),
        (Text("pick up the cup with your right hand", 0.0, 5.0), {"right"}),
        (Text("fold it with both hands", 0.0, 5.0), {"right"}),
    ):
        clip = clip_of({"right": PICK, "left": drift}, text)
        assert {side for side in ("left", "right") if goals_of(clip, side)} == sides, text
    moved = visits((CUP, 0, 1), (CUP + [0.2, 0, 0], 2, 3), (CUP, 4, 5), seconds=5)
    assert goals_of(clip_of({"right": PICK, "left": moved}, Text("pick up the cup", 0.0, 5.0)), "left")


def test_what_is_not_known_of_a_touch_is_neither_reached_nor_let_go():
    clip = example_clip()
    goals = task_goals(clip, ["red cup", "plate"])
    assert (goals.goal("right", clip.texts[0], 5).frame, goals.goal("right", clip.texts[0], 30).frame) == (20, 50)
    touch = clip.contacts["right", "red cup"].astype(float)
    touch[15:20] = touch[51:] = np.nan
    unsure = replace(clip, contacts={("right", "red cup"): touch})
    goals = task_goals(unsure, ["red cup", "plate"])
    for frame in (5, 30):
        goal = goals.goal("right", clip.texts[0], frame)
        assert goal is None or goal.kind == "stop"


def test_a_hold_that_ends_with_the_clip_is_not_let_go():
    clip = example_clip()
    held = replace(clip, contacts={("right", "red cup"): clip.timestamps - 3.0 >= 2})
    goal = task_goals(held, ["red cup", "plate"]).goal("right", clip.texts[0], 30)
    assert goal is None or goal.kind == "stop"


def test_names_are_found_as_whole_words_in_the_order_of_the_sentence():
    names = ["can", "cup", "red cup", "plate"]
    assert mentioned_names("Put the candle and two cups on the plate", names) == ["cup", "plate"]
    assert mentioned_names("the plate and the red cup", names)[0] == "plate"


def test_stops_of_films_are_where_a_hand_has_done_something():
    """Without contacts: goals are near where the film's hand has grasped, moved, tilted or set down something."""
    near = total = 0
    for seed in seeds_of("validation")[:12]:
        clip = film_clip(seed, rate=30.0, size=(32, 32))
        instructions = tuple(replace(t, hand=None) for t in clip.texts if not t.text.startswith(("the ", "both ")))
        goals = task_goals(replace(clip, contacts=None, objects=None, texts=instructions), [])
        for side, path in goals.wrists.items():
            done = [
                t.end for t in clip.texts if t.text.startswith(("the ", "both ")) and not t.text.endswith("back")
            ]
            worked = np.searchsorted(goals.times, done).clip(0, len(clip) - 1)
            for text in instructions:
                for frame in range(0, len(clip), 10):
                    if text.start <= goals.times[frame] < text.end and (goal := goals.goal(side, text, frame)):
                        total += 1
                        distance = np.linalg.norm(path[worked] - path[goal.frame], axis=-1)
                        near += len(worked) > 0 and distance.min() < 0.04
    assert total > 50
    assert near / total > 0.8


@pytest.mark.skipif(not REAL.is_dir(), reason="real EgoDex recordings are not here")
@pytest.mark.parametrize("seconds", [10.0, 2.0])
def test_real_recordings_that_begin_and_end_at_rest_never_send_a_hand_back_to_it_or_to_a_cut(seconds):
    whole = {}
    for clip in load_source("egodex").read_clips(REAL, SourceOptions(seconds=1e6)):
        whole[clip.source_video] = {s: p[0] for s, p in task_goals(clip, []).wrists.items()}
    asked = away = 0
    for clip in load_source("egodex").read_clips(REAL, SourceOptions(seconds=seconds)):
        goals, every = task_goals(clip, []), np.arange(0, len(clip), 5)
        hands = locate_hands(clip, Sight(clip, every.tolist()), HandsConfig())
        geometry = ClipGeometry(every, clip.T_world_camera[every], (), hands)
        for found in task_completions(clip, geometry, RelationsConfig()):
            side, frame = found.relation.hand, found.frames[-1]
            assert found.relation.goal == "stop"
            assert (clip.source_video.split("/")[1], side) != ("basic_pick_and_place", "left")  # it lies still
            goal = goals.goal(side, clip.texts[0], frame).frame
            path, start = goals.wrists[side], whole[clip.source_video][side]
            asked += 1
            assert goals.times[-1] - goals.times[goal] > 0.1
            if np.linalg.norm(path[frame] - start) > 0.05:
                away += 1
                assert np.linalg.norm(path[goal] - start) > 0.5 * np.linalg.norm(path[frame] - start)
    assert asked > 20
    assert away > 10
