"""Progress lines of everything that counts things."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
