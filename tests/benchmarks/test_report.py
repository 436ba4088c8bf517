"""The report on small results of the real types: what it shows, what it says when something is missing."""

import json
import re
import struct
import zlib
from dataclasses import asdict
from html.parser import HTMLParser

import numpy as np
import pytest

from vipa import cli
from vipa.benchmarks.report.charts import (
    Interval,
    Series,
    bar_chart,
    interval_chart,
    line_chart,
    step_chart,
)
from vipa.benchmarks.report.comparisons import compare, compare_intervals, pair, pairs
from vipa.benchmarks.report.contenders import (
    DISTANCE,
    SUCCESS,
    Arm,
    Column,
    Media,
    Rollouts,
    Run,
    columns,
    find_runs,
    read_run,
)
from vipa.benchmarks.report.curves import Curve
from vipa.benchmarks.report.markdown import markdown, tables
from vipa.benchmarks.report.published import published, published_tables
from vipa.benchmarks.report.report import Report, Step, render
from vipa.benchmarks.results import Hand3DResult, KindScores, Mean, TrajectoryResult

RECORDS = {"hand3d": {"content": "abc"}, "split": "test", "records": 250}


def tiny_png(path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0\x80\x90\xa0")
    body = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def hand3d(error, direction, spread=0.004):
    def scores(kind):
        return KindScores(
            kind,
            250,
            3,
            Mean(error, error - spread, error + spread),
            Mean(direction, direction - 0.05, direction + 0.05),
        )

    rng = np.random.default_rng(0)
    counts, edges = np.histogram(np.clip(rng.exponential(error, 1000), 0, 0.499), np.linspace(0, 0.5, 26))
    kinds = ("all", "camera_rotation", "hand_movement", "spatial_relation", "task_completion")
    return Hand3DResult(
        "x", RECORDS, tuple(map(scores, kinds)), (60, 200, 400, 340), tuple(edges.tolist()), tuple(counts.tolist())
    )


def trajectories(average):
    means = Mean(average, average - 0.003, average + 0.003), Mean(1.5 * average, 1.4 * average, 1.6 * average)
    return TrajectoryResult("x", RECORDS, 300, 2, *means, {"instructional_motion_generation": means})


def column(name, tone, picture, quality=1.0):
    losses = {
        f"stage{i}": Curve(tuple((10 * k, i / (1 + quality * k / 20) + 0.02 * np.sin(k)) for k in range(60)), held)
        for i, held in ((1, ()), (2, ()), (3, ((300, 1.0), (600, 0.9))))
    }

    def arm(name, benchmark, result, lines=()):
        return Arm(name, tone if name == "ours" else "base", (Run(picture, benchmark, result, lines),))

    tasks = ("reach the red cup", "push the blue box to the left")
    played = [
        arm(
            name,
            "closed_loop",
            Rollouts(name, {}, {tasks[0]: (hits, 20), tasks[1]: (5, 20), "all": (hits + 5, 40)}, (picture,) * 2),
        )
        for name, hits in (("ours", 14), ("blank", 2))
    ]
    return Column(
        name,
        tone,
        "4 minutes of training",
        losses,
        (
            arm("ours", "hand3d", hand3d(0.1 / quality, 1.9)),
            arm("before", "hand3d", hand3d(0.14, 1.5)),
            arm("constant", "hand3d", hand3d(0.117, 1.24)),
        ),
        (
            arm("ours", "trajectories", trajectories(0.06 / quality)),
            arm("stay", "trajectories", trajectories(0.08)),
        ),
        closed_loop=tuple(played),
        drawings=(Media(picture, "put the red cup on the blue plate"),) * 4,
    )


@pytest.fixture
def report(tmp_path):
    picture = tiny_png(tmp_path / "picture.png")
    steps = tuple(Step(f"Step {i}", "What it is.", Media(picture, "a picture")) for i in range(5))
    question = Step("Question", "In words.", None, "Where is the <red> cup?", "left and down, 0.44m", wide=True)
    columns = column("trained just now", "now", picture), column("shipped nano", "shipped", picture, 1.5)
    return Report("a day", (*steps, question), columns, (("cores", "2"),), ("All went as planned.",))


class Checker(HTMLParser):
    """Collects what a page refers to and whether its tags nest."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.references = [], []

    def handle_starttag(self, tag, attrs):
        self.references += [v for k, v in attrs if k in ("src", "href") and v]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert all(reference.startswith("data:") for reference in checker.references)
    assert "<script" not in page
    assert not re.search(r"url\(|@import|\bnan\b|\bNone\b", page)


def test_page_is_well_formed_and_refers_to_nothing_outside(report):
    page = render(report)
    check(page)
    assert page.count("data:image/png") == 5 + 2 * (4 + 2 * 2)
    assert "Where is the &lt;red&gt; cup?" in page


def test_both_columns_show_their_own_figures(report):
    page = render(report)
    assert "0.100 m" in page
    assert "0.067 m" in page


def test_missing_inputs_are_said_not_fatal(tmp_path):
    empty = Report("a day", (), (Column("trained just now", "now"), Column("shipped nano", "shipped")))
    page = render(empty)
    check(page)
    for words in ("No training log", "No Hand3D results", "No trajectory results", "No closed-loop results"):
        assert page.count(words) == 2
    lost = Report("a day", (Step("Frame", "", Media(tmp_path / "lost.png")),), empty.columns)
    assert "lost.png is missing" in render(lost)


def interval(value, low, high):
    return Interval("x", "now", value, low, high)


@pytest.mark.parametrize(
    ("ours", "less", "mark"),
    [
        (interval(0.10, 0.09, 0.11), True, "good"),
        (interval(0.10, 0.09, 0.12), True, "part"),
        (interval(0.13, 0.12, 0.14), True, "bad"),
        (interval(0.13, 0.12, 0.14), False, "bad"),
        (interval(0.20, 0.15, 0.30), False, "part"),
        (interval(0.20, 0.19, 0.30), False, "good"),
    ],
)
def test_verdict_follows_the_best_baseline_and_the_intervals(ours, less, mark):
    baselines = [interval(0.13, 0.12, 0.14), interval(0.15, 0.14, 0.17)]
    assert compare_intervals(ours, baselines, less_is_better=less).mark == mark


def test_results_come_back_from_their_files(tmp_path):
    for result in (hand3d(0.1, 1.9), trajectories(0.06)):
        path = tmp_path / "result.json"
        path.write_text(json.dumps(asdict(result)))
        assert type(result).load(path) == result
        other = TrajectoryResult if isinstance(result, Hand3DResult) else Hand3DResult
        with pytest.raises(ValueError, match=re.escape("result.json")):
            other.load(path)


def numbers(chart, anchor):
    """The figures at one axis of a chart: below it they are centred, beside it they end there."""
    texts = re.findall(rf'<text style="[^"]*text-anchor: {anchor}[^"]*"[^>]*>([^<]*)</text>', chart)
    return [float(t.replace("\N{MINUS SIGN}", "-")) for t in texts if t not in ("x", "y")]


def test_ticks_are_round_inside_and_a_few():
    for low, high in [(0, 1), (0.03, 0.117), (0, 3), (-2, 5), (0, 12345)]:
        chart = line_chart([Series("a", "now", [low, high], [low, high])], "x", "y")
        for found in (numbers(chart, "middle"), numbers(chart, "end")):
            assert 2 <= len(found) <= 7
            slack = 0.06 * (high - low)
            assert all(min(low, 0) - slack <= t <= high + slack for t in found)
            assert len(set(np.round(np.diff(found), 9))) == 1


def test_charts_are_the_same_each_time_and_take_colours_and_fonts_from_the_page():
    drawn = [line_chart([Series("a", "shipped", [0, 1], [0, 1])], "x & <y>", "y") for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert "stroke: var(--shipped)" in drawn[0]
    assert "x &amp; &lt;y&gt;</text>" in drawn[0]
    assert ">$a_1$ of $b$</text>" in interval_chart([Interval("$a_1$ of $b$", "now", 0.1)], "m")
    assert not re.search(r"#[0-9a-f]{6}|font-family|http|url\(", drawn[0])


def test_the_unknown_interval_of_a_single_clip_is_left_out():
    chart = interval_chart([Interval("one clip", "now", 0.1, -np.inf, np.inf)], "m")
    assert ">0.100 m<" in chart
    assert "inf" not in chart


def shapes(drawing):
    """Without the shape of the dots, which is around 0."""
    return re.sub("<defs>.*?</defs>", "", drawing, flags=re.DOTALL)


def test_charts_stay_inside_their_box_and_skip_what_is_empty():
    series = [Series("a", "now", [0, 1, 2], [3.0, 1.0, float("inf")])]
    for drawing in (
        line_chart(series, "x", "y"),
        bar_chart(["0", "1", "2"], [Series("a", "now", [], [1.0, 2.0, 3.0])], "x", "y"),
        step_chart([0, 1, 2, 3], [Series("a", "now", [], [1.0, 2.0, 3.0])], "x", "y"),
        interval_chart([interval(0.1, 0.05, 0.2)], "m"),
    ):
        ends = [end for d in re.findall(r' d="(M[^"]*)"', shapes(drawing)) for end in re.findall(r"[-\d.]+", d)]
        ends += [v for pair in re.findall(r' x="([-\d.]+)" y="([-\d.]+)"', drawing) for v in pair]
        assert len(ends) > 20
        assert all(0 <= float(v) <= 400 for v in ends)
    assert line_chart([], "x", "y") == bar_chart([], [], "x", "y") == interval_chart([], "m") == ""


def saved(folder, name, errors, *, content="abc", records=40):
    """Files of a Hand3D result whose records have these errors, two a clip."""
    lines = [
        {
            "id": str(i), "clip_id": str(i // 2), "kind": "hand_movement", "error": float(e), "direction_score": 2,
            "answer": "left, 0.10m" if e < 9 else "over there",
        }
        for i, e in enumerate(errors)
    ]  # fmt: skip
    mean = Mean(float(np.mean(errors)), 0.0, 1.0)
    score = KindScores("all", len(errors), 0, mean, Mean(2.0, 2.0, 2.0), (mean,) * 3)
    protocol = {"hand3d": {"content": content}, "split": "test", "records": records, "answerer": {"weights": name}}
    made = {"commit": "0123456789", "machine": {"processor": "a processor", "cores": 2}, "date": "2026-01-01"}
    result = Hand3DResult(
        name,
        protocol,
        (score,),
        (0, 0, len(errors), 0),
        (0.0, 0.5),
        (len(errors),),
        (),
        (),
        {"1": "over there"},
        made,
    )
    path = folder / f"{name}.json"
    path.write_text(json.dumps(asdict(result)))
    path.with_name(f"{name}_answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [{}, *lines]))
    return path


def played(folder, name, successes):
    """A folder of a closed loop with these episodes."""
    out = folder / name
    out.mkdir()
    rows = [
        {"task": "touch", "seed": i, "success": bool(s), "failure": "" if s else "out of time"}
        for i, s in enumerate(successes)
    ]
    score = {"successes": sum(map(bool, successes)), "trials": len(successes)}
    protocol = {"benchmark": "libero", "policy": name, "identity": name, "differences": ["stand-in assets"]}
    (out / "result.json").write_text(json.dumps({"protocol": protocol, "scores": {"touch": score, "all": score}}))
    (out / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return out


@pytest.fixture
def runs(tmp_path):
    rng = np.random.default_rng(0)
    errors = rng.uniform(0.05, 0.2, 40)
    return {
        "ours": saved(tmp_path, "ours", errors),
        "theirs": saved(tmp_path, "theirs", errors + rng.uniform(0.0, 0.02, 40)),
        "other": saved(tmp_path, "other", errors, content="other questions"),
        "policy": played(tmp_path, "policy", [1] * 20 + [0] * 10),
        "blank": played(tmp_path, "blank", [1] * 8 + [0] * 22),
    }


def test_the_same_records_are_compared_record_by_record(runs):
    ours, theirs = (Arm(name, "now", (read_run(runs[name]),)) for name in ("ours", "theirs"))
    a, b = ours.values(DISTANCE), theirs.values(DISTANCE)
    found = pair(ours, theirs, DISTANCE)
    clips = [[a[r] - b[r] for r in a if ours.clusters[r] == clip] for clip in sorted(set(ours.clusters.values()))]
    assert found.difference.mean.value == pytest.approx(np.mean(np.concatenate(clips)))
    assert (found.difference.records, found.better(DISTANCE)) == (40, True)
    verdict = compare(ours, [theirs], DISTANCE)  # the intervals of the two overlap; the pairs say more
    assert verdict.mark == "good"
    assert "on the same 40 records" in verdict.words
    policy, blank = (Arm(name, "now", (read_run(runs[name]),)) for name in ("policy", "blank"))
    (episodes,) = pairs([policy, blank], SUCCESS)
    assert (episodes.episodes.only_first, episodes.episodes.only_second) == (12, 0)
    assert episodes.episodes.p == pytest.approx(2 * 0.5**12)


def test_several_trainings_are_a_sample_and_one_stands_beside_each_of_the_others(tmp_path):
    rng = np.random.default_rng(1)
    errors = rng.uniform(0.1, 0.2, 40)
    runs = [saved(tmp_path, f"ours {k}", errors + shift) for k, shift in enumerate((-0.05, 0.03, -0.01))]
    ours = Arm("ours", "now", tuple(map(read_run, runs)))
    theirs = Arm("theirs", "base", (read_run(saved(tmp_path, "theirs", errors)),))
    one = pair(Arm("first", "now", ours.runs[:1]), theirs, DISTANCE)
    assert one.better(DISTANCE)
    found = pair(ours, theirs, DISTANCE)
    assert found.difference.mean.value == pytest.approx(-0.01)
    assert (found.difference.records, found.better(DISTANCE)) == (40, None)


def test_runs_are_arms_by_their_name_seeds_by_the_same_and_columns_by_their_questions(runs):
    named = [("a", runs["ours"]), ("a", runs["theirs"]), ("b", runs["theirs"]), ("a", runs["other"])]
    first, second = columns((name, read_run(path)) for name, path in named)
    assert [(arm.name, len(arm.runs)) for arm in first.hand3d] == [("a", 2), ("b", 1)]
    assert [(arm.name, len(arm.runs)) for arm in second.hand3d] == [("a", 1)]
    seeds = first.hand3d[0].seeds(DISTANCE)
    assert first.hand3d[0].mean(DISTANCE).value == pytest.approx(np.mean(seeds))


def test_the_verb_writes_a_page_and_its_tables(runs, tmp_path, capsys):
    out = tmp_path / "page.html"
    named = [f"our model={runs['ours']}", str(runs["theirs"]), str(runs["policy"]), f"covered={runs['blank']}"]
    cli.main(["report", *named, "--out", str(out), "--title", "A <title>"])
    page, text = out.read_text(), out.with_suffix(".md").read_text()
    check(page)
    assert "A &lt;title&gt;" in page
    for words in (
        "our model",
        "covered",
        "0123456789",
        "a processor",
        "stand-in assets",
        "96.8",
        "arXiv 2512.13080",
    ):
        assert words in page
        assert words in text
    assert "20 of 30: 67 %" in text
    assert "| policy against covered | 30 | 8 | 12 | 0 | 10 | +40.0 points" in text
    assert "over there" in page
    assert all(line.count(" | ") for line in text.splitlines() if line.startswith("|"))


def test_what_is_no_result_is_said_in_one_line(tmp_path):
    (tmp_path / "a.json").write_text('{"scores": 3}')
    for path in (tmp_path / "a.json", tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match=str(path)):
            list(find_runs(path))


def test_every_published_figure_has_its_source_and_conditions():
    for table in published().values():
        for row in table["rows"]:
            assert len(row["values"]) == len(table["columns"])
            assert row["source"].startswith("arXiv ")
            assert row["conditions"]
    libero = published()["libero"]["rows"]
    for row in (row for row in libero if None not in row["values"]):
        assert np.mean(row["values"][:4]) == pytest.approx(row["values"][4], abs=0.051)


def test_tables_of_a_column_without_results_are_none_and_pipes_are_no_columns():
    assert tables(Column("empty")) == []
    assert published_tables([Column("empty")]) == []
    table = tables(Column("x", hand3d=(Arm("a|b", "now", (Run(None, "hand3d", hand3d(0.1, 2.0)),)),)))[0]
    assert "a\\|b" in markdown(table)
