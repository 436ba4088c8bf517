"""An evaluation through vla-eval, the field's harness: its benchmarks, its loop, its recording. A stopped one goes on.

out/
  protocol.json          all that decides the figures, and the versions it ran with
  recording-run.sqlite   vla-eval's recording: what its processes share, and every finished episode
  episodes.jsonl         the episodes that count, one line each
  result.json            rates with 95 % Wilson intervals
  videos/                rollouts of the first episodes of each task
  logs/                  what each process said

The simulator has a Python of its own (`python`), which needs vla-eval and nothing of ours; the policy is at `url`, a
server that speaks vla-eval's protocol. Ours is `robots.serving.vla_eval_server`.
"""

import fcntl
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vipa.benchmarks.closed_loop import EpisodeOutcome, TaskScore
from vipa.io.files import atomic_write, remove
from vipa.io.json_files import read_json
from vipa.io.json_log import differences
from vipa.io.provenance import provenance

WORKER = Path(__file__).parent / "simulator_side" / "harness_worker.py"
EVAL_ID = "run"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """One of the harness's benchmarks. name: of this entry, a word. benchmark: its class, as `module:Class`, from the
    simulator's own packages or from `simulator_side`. params: of that class. tasks: which of its tasks, by number;
    (): all. steps: the limit of an episode; None: the benchmark's own."""

    name: str
    benchmark: str
    params: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[int, ...] = ()
    steps: int | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise ValueError(f"entry {self.name!r}: its name must be one word")


@dataclass(frozen=True)
class HarnessRun:
    """One evaluation through vla-eval, complete: all that decides its figures but the policy.

    name: of the benchmark. policy: a name for the record. episodes: of each task, the harness's numbers 0, 1, ...
    python: the simulator's, a path or a command (as of a container). rules: what else of the protocol others must
    know, for the record. processes: at once. videos: rollouts kept of each task. rate: actions a second, of the films.
    raw_images: pictures go uncompressed to the server; for one on this machine. timeout: seconds for an answer.
    anew: where `out` holds another policy's or protocol's episodes, begin again instead of refusing.
    """

    out: Path
    name: str
    policy: str
    entries: tuple[Entry, ...]
    python: str
    episodes: int = 50
    rules: dict[str, Any] = field(default_factory=dict)
    processes: int = 1
    render: Literal["cpu", "gpu"] = "cpu"
    videos: int = 3
    rate: int = 20
    raw_images: bool = True
    timeout: float = 120.0
    anew: bool = False

    @property
    def recording(self) -> Path:
        return self.out / f"recording-{EVAL_ID}.sqlite"


@dataclass(frozen=True)
class Simulator:
    """What stands in the simulator's environment. tasks: words of each task by entry, in the harness's order. views:
    picture -> shape, and state: numbers, of the first observation."""

    tasks: dict[str, list[str]]
    versions: dict[str, str]
    views: dict[str, list[int]]
    state: int | None


@dataclass(frozen=True)
class HarnessResult:
    """Outcomes of an evaluation. A task of an outcome is "entry/number", its seed the harness's episode."""

    protocol: dict[str, Any]
    outcomes: tuple[EpisodeOutcome, ...]
    videos: tuple[Path, ...]

    @property
    def scores(self) -> dict[str, TaskScore]:
        """By entry, and "all" over every episode."""
        return {**self._scores(lambda o: o.task.partition("/")[0]), "all": TaskScore.of(self.outcomes)}

    @property
    def task_scores(self) -> dict[str, TaskScore]:
        return self._scores(lambda o: o.task)

    def _scores(self, key: Callable[[EpisodeOutcome], str]) -> dict[str, TaskScore]:
        names = dict.fromkeys(map(key, self.outcomes))
        return {name: TaskScore.of([o for o in self.outcomes if key(o) == name]) for name in names}

    def __str__(self) -> str:
        texts = {outcome.task: outcome.text for outcome in self.outcomes}
        lines = [f"  {task:<20} {score}   {texts[task]}" for task, score in self.task_scores.items()]
        return "\n".join([*lines, *(f"  {name:<20} {score}" for name, score in self.scores.items())])

    def to_dict(self) -> dict[str, Any]:
        texts = {outcome.task: outcome.text for outcome in self.outcomes}
        tasks = {task: {**score.to_dict(), "text": texts[task]} for task, score in self.task_scores.items()}
        scores = {name: score.to_dict() for name, score in self.scores.items()}
        return {"protocol": self.protocol, "scores": scores, "tasks": tasks}


def look(run: HarnessRun) -> Simulator:
    """Starts one episode there and says what it saw. ValueError, one line, where something is missing."""
    log = run.out / "logs" / "probe.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [*_command(run), str(_write(run, "", {})), "probe"]
    with log.open("wb") as errors:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=surroundings()
        )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise ValueError(f"{run.python}: ended with code {done.returncode}; {log} says why") from None
    if "error" in answer:
        raise ValueError(f"{run.python}: {answer['error']}")
    simulator = Simulator(**answer)
    for entry in run.entries:
        names = simulator.tasks[entry.name]
        if bad := [number for number in entry.tasks if not 0 <= number < len(names)]:
            raise ValueError(f"{entry.name}: has no task {bad[0]}; they are 0 .. {len(names) - 1}")
        chosen = [names[number] for number in entry.tasks]
        if sum(name in chosen for name in names) > len(set(entry.tasks)):
            raise ValueError(
                f"{entry.name}: several of its tasks have the same words, so they cannot be chosen singly"
            )
    return simulator


def play(
    run: HarnessRun,
    url: str,
    identity: dict[str, Any],
    simulator: Simulator,
    progress: Progress = lambda done, total: None,
) -> HarnessResult:
    """Plays what `run.out` does not hold yet with the policy at `url`, and returns all of it.

    identity: what decides the policy's actions. ValueError where `run.out` holds episodes of another policy or
    protocol, or is in use; and, when everything else is done, where episodes could not be played.
    """
    (run.out / "logs").mkdir(parents=True, exist_ok=True)
    with (run.out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{run.out}: another evaluation is writing there") from None
        protocol = _open_folder(run, identity, simulator)
        numbers = {e.name: sorted(set(e.tasks)) or range(len(simulator.tasks[e.name])) for e in run.entries}
        jobs = [
            (entry, place, seed)
            for entry, tasks in numbers.items()
            for place in range(len(tasks))
            for seed in range(run.episodes)
        ]
        rows = _finished(run)
        if not rows.keys() >= set(jobs):
            _queue(run, rows)
            names = {e.name: [simulator.tasks[e.name][n] for n in numbers[e.name]] for e in run.entries if e.tasks}
            codes = _work(run, _write(run, url, names), lambda: progress(_count(run, jobs), len(jobs)))
            rows = _finished(run)
            if missing := [job for job in jobs if job not in rows]:
                raise ValueError(_why(run, len(missing), len(jobs), codes))
        outcomes, films = [], {}
        for entry, place, seed in jobs:
            row, task = rows[entry, place, seed], f"{entry}/{numbers[entry][place]}"
            success = row["status"] == "success"
            failure = "" if success else "time is up"
            outcomes.append(EpisodeOutcome(task, seed, row["task_name"], success, failure, row["steps"]))
            if seed < run.videos:
                verdict = "success" if success else "failure"
                films[f"{task.replace('/', '_')}_{seed}_{verdict}.mp4"] = row["jsonl_path"]
        text = "".join(json.dumps(asdict(outcome)) + "\n" for outcome in outcomes)
        atomic_write(run.out / "episodes.jsonl", text)
        result = HarnessResult(protocol, tuple(outcomes), _keep(run, films))
        atomic_write(
            run.out / "result.json", json.dumps(result.to_dict() | {"made": provenance()}, indent=2) + "\n"
        )
        return result


def _command(run: HarnessRun) -> list[str]:
    """The simulator's Python with the worker. ValueError where there is no such program."""
    command = shlex.split(run.python)
    if not command or shutil.which(command[0]) is None:
        raise ValueError(
            f"--python {run.python or 'PATH'}: no such program; it is the Python of the simulator's environment"
        )
    return [*command, str(WORKER)]


def surroundings() -> dict[str, str]:
    """Variables for the simulator's Python."""
    ours = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "VIRTUAL_ENV")}
    path = os.pathsep.join(filter(None, [str(WORKER.parent), ours.get("PYTHONPATH")]))
    return {"OMP_NUM_THREADS": "1", **ours, "PYTHONPATH": path}


def _write(run: HarnessRun, url: str, names: dict[str, list[str]]) -> Path:
    """What the workers read. names: of an entry's tasks, where not all are played."""
    recording = {"record_step": False, "record_video": run.videos > 0, "video_fps": run.rate}
    entries = [
        {
            "name": entry.name,
            "benchmark": entry.benchmark,
            "params": entry.params,
            "episodes_per_task": run.episodes,
            "tasks": names.get(entry.name),
            "max_steps": entry.steps,
            "recording": recording,
        }
        for entry in run.entries
    ]
    server = {"url": url, "timeout": run.timeout}
    config = {"server": server, "output_dir": str(run.out.resolve()), "render": run.render, "benchmarks": entries}
    file = run.out / "vla_eval.json"
    values = {"config": config, "eval_id": EVAL_ID, "raw_images": run.raw_images}
    atomic_write(file, json.dumps(values, indent=1) + "\n")
    return file.resolve()


def _open_folder(run: HarnessRun, identity: dict[str, Any], simulator: Simulator) -> dict[str, Any]:
    """The protocol, saved. ValueError (or a new beginning) where the folder holds other episodes."""
    deciding = {
        "benchmark": run.name,
        "harness": "vla-eval",
        "identity": identity,
        "entries": {entry.name: {**asdict(entry), "tasks": list(entry.tasks) or "all"} for entry in run.entries},
        **run.rules,
        "render": run.render,
        "versions": simulator.versions,
    }
    file = run.out / "protocol.json"
    if run.recording.exists() and file.exists():
        before = read_json(file)
        lines = list(differences({name: before.get(name) for name in deciding}, json.loads(json.dumps(deciding))))
        if lines and not run.anew:
            raise ValueError(f"{run.out}: holds other episodes: {'; '.join(lines)}; choose or empty the folder")
        if lines:
            for old in ("result.json", "episodes.jsonl", "videos", "episodes", run.recording.name):
                remove(run.out / old)
    protocol = {"policy": run.policy, "episodes": run.episodes, **deciding}
    atomic_write(file, json.dumps(protocol, indent=2) + "\n")
    return protocol


Job = tuple[str, int, int]
"""Entry, the place of its task among those that are played, episode."""


def _finished(run: HarnessRun) -> dict[Job, sqlite3.Row]:
    """The episodes that count: of each the first that went to its end, and none that an error ended."""
    found: dict[Job, sqlite3.Row] = {}
    for row in _rows(run, "SELECT * FROM episode_results WHERE status != 'error' ORDER BY rowid"):
        entry = row["eval_id"].removeprefix(f"{EVAL_ID}-")
        found.setdefault((entry, json.loads(row["context"])["task_idx"], row["episode_id"]), row)
    return found


def _rows(run: HarnessRun, query: str) -> list[sqlite3.Row]:
    """Of the recording; none where there is no recording yet."""
    if not _rows_there(run):
        return []
    with _database(run) as database:
        return database.execute(query).fetchall()


def _rows_there(run: HarnessRun) -> bool:
    if not run.recording.exists():
        return False
    with _database(run) as database:
        return bool(database.execute("SELECT 1 FROM sqlite_master WHERE name = 'work_queue'").fetchone())


def _count(run: HarnessRun, jobs: Sequence[Job]) -> int:
    there = _finished(run)
    return sum(job in there for job in jobs)


def _queue(run: HarnessRun, finished: dict[Job, sqlite3.Row]) -> None:
    """The harness's queue anew, with these episodes done. It fills in the others: those that were never begun, that a
    killed process had taken, and that an error ended."""
    if not _rows_there(run):
        return
    done = [
        (f"{EVAL_ID}-{entry}", place * run.episodes + seed, place)
        for entry, place, seed in finished
        if seed < run.episodes
    ]
    with _database(run) as database, database:
        database.execute("DELETE FROM work_queue")
        database.executemany("INSERT INTO work_queue (eval_id, item, task_idx, done) VALUES (?, ?, ?, 1)", done)


def _database(run: HarnessRun) -> "closing[sqlite3.Connection]":
    connection = sqlite3.connect(run.recording, timeout=60)
    connection.row_factory = sqlite3.Row
    return closing(connection)


def _work(run: HarnessRun, file: Path, progress: Callable[[], None]) -> list[int]:
    """Runs the worker processes to their end. Their exit codes."""
    workers = []
    try:
        for shard in range(run.processes):
            with (run.out / "logs" / f"{shard}.log").open("ab") as log:
                command = [*_command(run), str(file), str(shard), str(run.processes)]
                pipe = subprocess.PIPE  # which ends with us, and the worker with it
                workers.append(subprocess.Popen(command, stdin=pipe, stdout=log, stderr=log, env=surroundings()))
        while any(worker.poll() is None for worker in workers):
            time.sleep(1)
            progress()
    finally:
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()
        codes = [worker.wait() for worker in workers]
    return codes


def _why(run: HarnessRun, missing: int, total: int, codes: list[int]) -> str:
    """Why episodes are missing, in one line."""
    errors = _rows(run, "SELECT failure_detail FROM episode_results WHERE status = 'error' ORDER BY rowid DESC")
    reason = [(row[0] or "").strip().splitlines()[-1] for row in errors[:1]]
    ended = [f"process {shard} ended with code {code}" for shard, code in enumerate(codes) if code]
    words = "; ".join([*reason, *ended]) or "the harness stopped early"
    return f"{missing} of {total} episodes are missing: {words} (see {run.out / 'logs'}); the same command goes on"


def _keep(run: HarnessRun, films: dict[str, str]) -> tuple[Path, ...]:
    """Moves the films that are wanted into `videos/` and drops the harness's others. films: name -> its record."""
    folder = run.out / "videos"
    for name, record in films.items():
        if (film := run.out / Path(record).with_suffix(".mp4")).exists():
            folder.mkdir(exist_ok=True)
            film.replace(folder / name)
    remove(run.out / "episodes")
    return tuple(sorted(folder.glob("[!.]*.mp4")))
