"""Jobs: done once by their content, in order, continued after any end; one command at a time."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from vipa.io.jobs import Job, in_order, run_jobs

MADE = "job_functions"


@pytest.fixture
def functions(tmp_path, monkeypatch):
    """A module that the jobs' own processes can import."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / f"{MADE}.py").write_text(
        textwrap.dedent(
            '''
            import time
            from pathlib import Path

            def write(folder, settings, needs, options):
                """Counts its calls; its text is made from what it needs."""
                folder.mkdir(parents=True, exist_ok=True)
                with (folder / "calls").open("a") as file:
                    file.write("x")
                time.sleep(options.get("seconds", 0))
                until = time.monotonic() + 60
                while "meet" in options and not Path(options["meet"]).exists():
                    assert time.monotonic() < until, "the other did not begin"
                    time.sleep(0.05)
                before = "".join((path / "text").read_text() for path in needs.values())
                (folder / "text").write_text(before + settings["word"])

            def count(folder, settings, needs, options):
                import torch

                from vipa.io.child_process import cores

                folder.mkdir(parents=True, exist_ok=True)
                (folder / "text").write_text(f"{cores()} {torch.get_num_threads()}")

            def fail(folder, settings, needs, options):
                raise ValueError("clip 'a': this is wrong")
            '''
        )
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(folder))
    return folder


def job(word, *needs, **fields):
    return Job("job", f"{MADE}:write", {"word": word}, {str(i): need for i, need in enumerate(needs)}, **fields)


def test_a_key_follows_from_settings_and_needs_alone():
    a = job("a")
    assert a.key == job("a", options={"threads": 2}, units=7).key
    assert a.key != job("b").key
    assert job("c", a).key != job("c", job("b")).key
    assert [j.settings["word"] for j in in_order([job("c", a), job("d", a)])] == ["a", "c", "d"]


def test_jobs_are_done_once_and_after_what_they_need(functions, tmp_path):
    a = job("a")
    last = job("c", job("b", a), a)
    said: list[str] = []
    run_jobs([last, a], tmp_path / "store", say=said.append)
    assert (last.folder(tmp_path / "store") / "text").read_text() == "abac"
    assert len(said) == 3
    run_jobs([last], tmp_path / "store", say=said.append)
    assert len(said) == 3
    record = a.record(tmp_path / "store")
    assert record is not None
    assert record["settings"] == {"word": "a"}
    assert (a.folder(tmp_path / "store") / "calls").read_text() == "x"


def test_two_devices_work_at_once(functions, tmp_path):
    """Each waits until the other has begun."""
    store = tmp_path / "store"
    pair = [job(a, options={"meet": str(job(b).folder(store) / "calls")}) for a, b in ("ab", "ba")]
    run_jobs(pair, store, ("cpu", "cpu:1"), say=lambda s: None)
    assert all(j.record(store) for j in pair)


def test_a_device_that_is_named_twice_does_two_jobs_at_once(functions, tmp_path):
    store = tmp_path / "store"
    pair = [job(a, options={"meet": str(job(b).folder(store) / "calls")}) for a, b in ("ab", "ba")]
    run_jobs(pair, store, ("cpu", "cpu"), say=lambda s: None)
    assert all(j.record(store) for j in pair)


def test_what_many_wait_for_comes_first(functions, tmp_path):
    first, second = job("a"), job("b")
    waiting = [job("c", second), job("d", job("e", second))]
    said: list[str] = []
    run_jobs([first, *waiting], tmp_path / "store", say=said.append)
    begun = [line.split()[1] for line in said]
    assert begun[:2] == [second.key, job("e", second).key]
    assert begun.index(first.key) > 1


def test_a_job_on_one_core_computes_with_one_thread(functions, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    alone = Job("alone", f"{MADE}:count", {})
    run_jobs([alone], tmp_path / "store", ("cpu:1",), say=lambda s: None)
    assert (alone.folder(tmp_path / "store") / "text").read_text() == "1 1"


def test_a_failed_job_says_what_it_said(functions, tmp_path):
    bad = Job("bad", f"{MADE}:fail", {})
    with pytest.raises(ValueError, match=r"bad-\w+ failed: clip 'a': this is wrong \(all it said: .*log\)"):
        run_jobs([bad], tmp_path / "store", say=lambda s: None)
    assert bad.record(tmp_path / "store") is None


def test_a_killed_command_leaves_no_process_and_goes_on(functions, tmp_path):
    """The one that was stopped begins again in an empty folder, or goes on in its own, as it says of itself."""
    store = tmp_path / "store"
    script = (
        "from pathlib import Path\nfrom vipa.io.jobs import Job, run_jobs\n"
        "if __name__ == '__main__':\n"
        f"    slow = dict(make='{MADE}:write', options={{'seconds': 60}})\n"
        "    jobs = [Job('job', settings={'word': w}, resumes=w == 'b', **slow) for w in 'ab']\n"
        f"    run_jobs(jobs, Path({str(store)!r}), ('cpu', 'cpu:1'))\n"
    )
    (tmp_path / "command.py").write_text(script)
    command = subprocess.Popen([sys.executable, str(tmp_path / "command.py")])
    folders = [job(w).folder(store) for w in "ab"]
    deadline = time.monotonic() + 60
    while not all((folder / "calls").exists() for folder in folders) and time.monotonic() < deadline:
        time.sleep(0.1)
    with pytest.raises(ValueError, match="another command is at work here"):
        run_jobs([job("a")], store, say=lambda s: None)
    command.send_signal(signal.SIGKILL)
    command.wait()
    again = [job("a", resumes=False), job("b")]
    run_jobs(again, store, say=lambda s: None)  # waits for the old processes, which end by themselves
    assert [(folder / "calls").read_text() for folder in folders] == ["x", "xx"]
    assert [(folder / "text").read_text() for folder in folders] == ["a", "b"]
    assert json.loads((store / f"{again[1].key}.json").read_text())["seconds"] < 60
