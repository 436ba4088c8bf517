"""Whole files and folders, and the log of rows, under the faults that they are for."""

import json
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from vipa.io.files import OutputError, atomic_write, whole_file, whole_folder
from vipa.io.json_log import JsonLog
from vipa.io.video_writer import write_video


def test_a_block_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    atomic_write(path, "old")
    with pytest.raises(KeyError), whole_file(path) as beside:
        {}[beside.write_text("half of the n")]
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_takes_the_place_of_the_old_one_or_leaves_it(tmp_path):
    for words in ("one", "two"):
        with whole_folder(tmp_path / "model") as beside:
            (beside / words).write_text(words)
    assert os.listdir(tmp_path / "model") == ["two"]
    with pytest.raises(KeyError), whole_folder(tmp_path / "model") as beside:
        {}[(beside / "three").write_text("three")]
    assert os.listdir(tmp_path / "model") == ["two"]
    assert os.listdir(tmp_path) == ["model"]


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from vipa.io.files import OutputError, atomic_write, whole_file
from vipa.io.json_log import JsonLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
out = Path(sys.argv[1])
def bytes_(): atomic_write(out / "a", bytes(1 << 20))
def parquet():
    table = pa.table({"x": np.random.default_rng(0).random(1 << 17)})
    with whole_file(out / "a") as beside: pq.write_table(table, beside)
def arrays():
    with whole_file(out / "a") as beside, beside.open("wb") as file: np.savez(file, x=np.zeros(1 << 18))
def log(): JsonLog(out / "log").add({"x": "y" * (1 << 20)})
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
for write in (bytes_, parquet, arrays, log):
    try: write()
    except OutputError as error: print(error)
"""


def test_a_disk_that_takes_no_more_is_one_line_and_the_old_file_stays(tmp_path):
    (tmp_path / "a").write_text("old")
    JsonLog(tmp_path / "log").add({"row": 1})
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert all("cannot be written (File too large); make room" in line for line in lines), lines
    assert (tmp_path / "a").read_text() == "old"
    assert JsonLog(tmp_path / "log").rows == [{"row": 1}]  # half a row is dropped
    assert sorted(os.listdir(tmp_path)) == ["a", "log"]


def test_a_folder_that_is_a_file_is_named_and_a_missing_input_stays_what_it_is(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/a: cannot be written"):
        atomic_write(tmp_path / "file" / "a", b"x")
    with pytest.raises(FileNotFoundError, match="input"), whole_file(tmp_path / "a"):
        (tmp_path / "input").read_text()


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_log_cut_at_any_byte_of_its_last_row_has_the_rows_before_it(tmp_path, cut):
    path = tmp_path / "log.jsonl"
    JsonLog(path, {"run": 1}).add({"n": 1}, {"n": 22222})
    path.write_bytes(path.read_bytes()[:-cut])
    log = JsonLog(path, {"run": 1})
    assert log.rows == [{"n": 1}]
    log.add({"n": 3})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"run": 1}, {"n": 1}, {"n": 3}]


def test_a_log_of_another_run_is_refused_with_what_differs_or_begun_anew(tmp_path):
    path = tmp_path / "log.jsonl"
    JsonLog(path, {"model": "a", "seed": [1, 2]}).add({"n": 1})
    with pytest.raises(ValueError, match=r"model was a, is b; seed\[1\] was 2, is 3"):
        JsonLog(path, {"model": "b", "seed": [1, 3]})
    assert JsonLog(path, {"model": "a", "seed": [1, 2]}).rows == [{"n": 1}]
    assert JsonLog(path, {"model": "b"}, anew=True).rows == []
    assert json.loads(path.read_text()) == {"model": "b"}


def test_rows_to_be_repeated_are_forgotten_and_a_spoilt_row_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    JsonLog(path).add(*({"step": i} for i in range(5)))
    assert [row["step"] for row in JsonLog(path, keep=lambda row: row["step"] <= 2).rows] == [0, 1, 2]
    path.write_text("[1]\n" + path.read_text())
    with pytest.raises(ValueError, match=r"log\.jsonl, line 1: not a row"):
        JsonLog(path)


@pytest.mark.parametrize("rate", [10, 20, 50, 12.5, 30000 / 1001])
def test_frames_of_a_video_are_at_exact_times(tmp_path, rate):
    import av

    path = write_video(tmp_path / "a.mp4", (np.full((32, 48, 3), 9 * i, np.uint8) for i in range(12)), rate)
    with av.open(str(path)) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    steps = {b - a for a, b in pairwise(times)}
    assert times[0] == 0
    assert len(steps) == 1
    assert abs(float(steps.pop()) * rate - 1) < 1e-4


def test_sizes_that_video_cannot_have_are_refused_and_nothing_is_left(tmp_path):
    odd, small, large = (np.zeros(size, np.uint8) for size in ((33, 48, 3), (32, 48, 3), (64, 48, 3)))
    for images, words in (
        ([odd], "48 x 33"),
        ([small, large], "48 x 64, the first is 48 x 32"),
        ([], "at least one"),
    ):
        with pytest.raises(ValueError, match=words):
            write_video(tmp_path / "a.mp4", images, 10)
    assert os.listdir(tmp_path) == []
