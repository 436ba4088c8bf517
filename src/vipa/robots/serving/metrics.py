"""Counters and histograms in Prometheus' text form; written and read by the event loop's thread only, but for the
worker's whole additions."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64)


@dataclass
class Histogram:
    """bounds: upper ends of the buckets; a last one has no end."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str) -> Iterable[str]:
        so_far = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts):
            so_far += count
            yield f'{name}_bucket{{le="{bound}"}} {so_far}'
        yield f"{name}_sum {self.total:.6f}"
        yield f"{name}_count {so_far}"


@dataclass
class Metrics:
    """outcomes: answered requests by how they ended (ok, refused, late, busy, failed). waits: from a request's arrival
    to its answer. batches: rows of each batch. inferences: seconds of each batch."""

    outcomes: Counter[str] = field(default_factory=lambda: Counter(ok=0, refused=0, late=0, busy=0, failed=0))
    connections: int = 0
    waits: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    batches: Histogram = field(default_factory=lambda: Histogram(ROWS))
    inferences: Histogram = field(default_factory=lambda: Histogram(SECONDS))

    def text(self, clients: int, queued: int) -> str:
        """The page that Prometheus reads. clients: connected now. queued: requests that wait for the policy."""
        lines = ["# TYPE vipa_requests_total counter"]
        lines += [
            f'vipa_requests_total{{outcome="{name}"}} {count}' for name, count in sorted(self.outcomes.items())
        ]
        for name, kind, value in (
            ("vipa_connections_total", "counter", self.connections),
            ("vipa_clients", "gauge", clients),
            ("vipa_queued_requests", "gauge", queued),
        ):
            lines += [f"# TYPE {name} {kind}", f"{name} {value}"]
        for name, histogram in (
            ("vipa_request_seconds", self.waits),
            ("vipa_batch_rows", self.batches),
            ("vipa_inference_seconds", self.inferences),
        ):
            lines += [f"# TYPE {name} histogram", *histogram.lines(name)]
        return "\n".join(lines) + "\n"
