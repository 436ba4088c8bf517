"""Progress lines of everything that counts things."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def counter(name: str, unit: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """Yields count(words="", done=None): one more is done, or `done` of them; on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    console = Console(stderr=True)
    shown = {"refresh_per_second": 4, "transient": True, "disable": not console.is_terminal}
    with Progress(*columns, console=console, **shown) as progress:
        task = progress.add_task("", total=total)

        def count(words: str = "", done: int | None = None, total: int | None = None) -> None:
            if done is None:
                progress.update(task, description=words, total=total, advance=1)
            else:
                progress.update(task, description=words, total=total, completed=done)

        yield count


@contextmanager
def training_progress(
    name: str, steps: int, done: int = 0, shown: bool = True
) -> Iterator[Callable[[float, int], None]]:
    """Yields advance(loss, samples): call it once a step. shown: False says nothing, as all but one process do."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[rate]:.0f} samples/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, refresh_per_second=2, disable=not shown) as progress:
        task = progress.add_task(name, total=steps, completed=done, loss=float("nan"), rate=0.0)
        samples, smooth = 0, None

        def advance(loss: float, batch: int) -> None:
            nonlocal samples, smooth
            samples += batch
            smooth = loss if smooth is None else 0.95 * smooth + 0.05 * loss
            elapsed = progress.tasks[0].elapsed or 0.0
            progress.update(task, advance=1, loss=smooth, rate=samples / elapsed if elapsed else 0.0)

        yield advance
