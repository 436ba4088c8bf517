"""Recording episodes, one attempt after another, as a LeRobot v3 set; what was stopped goes on exactly.

meta/recording.jsonl has a first line of what decides the episodes, then one line an attempt: its id, how it went, and
whether it was written. The folder's other files are the data set's (`io.lerobot_writer`).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from vipa.io.child_process import begin_worker
from vipa.io.json_log import JsonLog
from vipa.robots.contract import ActionContract
from vipa.robots.episodes import Episode
from vipa.robots.lerobot_export import EpisodeWriter, Pictures

LOG = "meta/recording.jsonl"


@dataclass(frozen=True)
class Attempt:
    """One episode to be made. make: the same each time it is called; picklable where several processes work."""

    id: str
    make: Callable[[], Episode]


@dataclass(frozen=True)
class Recorded:
    """Ids of episodes: written now, found from before, and of attempts that failed and were not written."""

    written: tuple[str, ...]
    found: tuple[str, ...]
    failed: tuple[str, ...]

    def __str__(self) -> str:
        before = f", {len(self.found)} from before" if self.found else ""
        return f"{len(self.written)} episodes{before}; {len(self.failed)} attempts failed"


def record(
    root: Path,
    contract: ActionContract,
    attempts: Iterable[Attempt],
    settings: dict[str, Any],
    *,
    wanted: int | None = None,
    failures: bool = False,
    pictures: Pictures = "image",
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Recorded:
    """Makes attempts in order until `wanted` of them are episodes in `root` (None: all), and says what was done.

    Attempts that were made before are not made again, so that a recording that was stopped at any moment ends as one
    that was not. settings: what decides an attempt's episode beside its id, as JSON. failures: whether episodes that
    did not succeed are written too. workers: processes. progress(written, made). ValueError where `root` holds what was
    recorded with another contract or other settings.
    """
    root = Path(root)
    writer = EpisodeWriter(root, contract, pictures)
    log = JsonLog(root / LOG, {**settings, "failures": failures, "pictures": pictures})
    known = {row["id"]: row["written"] for row in log.rows}
    written, found, failed = [], [], []
    for made, (attempt, episode) in enumerate(_made(attempts, known, workers), 1):
        if episode is None:
            (found if known[attempt.id] else failed).append(attempt.id)
        else:
            good = failures or bool(episode.success)
            if good:
                writer.add(episode)
            log.add({"id": attempt.id, "success": episode.success, "written": good})
            (written if good else failed).append(attempt.id)
            progress(len(written) + len(found), made)
        if len(written) + len(found) == wanted:
            break
    writer.finish()
    return Recorded(tuple(written), tuple(found), tuple(failed))


def _made(
    attempts: Iterable[Attempt], known: Iterable[str], workers: int
) -> Iterator[tuple[Attempt, Episode | None]]:
    """Attempts with their episodes, in order; None where they are known."""
    if workers <= 1:
        for attempt in attempts:
            yield attempt, None if attempt.id in known else attempt.make()
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), begin_worker) as pool:
        waiting: deque[tuple[Attempt, Future[Episode] | None]] = deque()
        try:
            for attempt in attempts:
                waiting.append((attempt, None if attempt.id in known else pool.submit(attempt.make)))
                if len(waiting) > 2 * workers:
                    first, future = waiting.popleft()
                    yield first, future and future.result()
            for first, future in waiting:
                yield first, future and future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
