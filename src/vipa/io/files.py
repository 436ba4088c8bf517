"""Files and folders that are complete or absent."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class OutputError(ValueError):
    """A result that cannot be written; unlike a bad clip this ends the run."""


def atomic_write(path: Path, data: bytes | str, sync: bool = True) -> None:
    """All of `data` at `path`, or what was there before; text in UTF-8. Otherwise as `whole_file`."""
    with whole_file(path, sync) as beside:
        beside.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def whole_file(path: Path, sync: bool = True) -> Iterator[Path]:
    """Yields a path beside `path` to write to (its name ends in .tmp); what lies there at the end of the block is put
    on the disk and takes the place of `path`. Where the block fails, `path` is as it was. sync: False for the many
    small files that are cheaply made again: then a power failure may leave them empty.

    OutputError naming `path` where it cannot be written: a full disk, no permission, a folder that is a file.
    """
    with _beside(Path(path)) as beside:
        yield beside
        if sync:
            with open(beside, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(beside, path)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """The same for a folder: yields an empty one to fill, which then takes the place of `path` and its files."""
    with _beside(Path(path)) as beside:
        remove(beside)
        beside.mkdir()
        yield beside
        old = beside.with_suffix(".old")
        remove(old)
        if path.exists():
            os.replace(path, old)
        os.replace(beside, path)
        remove(old)


def remove(path: Path) -> None:
    """The file or folder is gone, if it was there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """An error of the disk within becomes an OutputError that names `path`; other errors stay as they are."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OutputError) or (reason := _reason(error, path)) is None:
            raise
        raise OutputError(f"{path}: cannot be written ({reason}); make room, or choose another --out") from error


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
        finally:  # moved away if all went well
            remove(beside)


_OUTPUT = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST,
    errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
}  # fmt: skip


def _reason(error: Exception, path: Path) -> str | None:
    """Why the disk refuses; None for an error that has another cause, such as a missing input."""
    if isinstance(error, OSError) and error.errno in _OUTPUT:
        elsewhere = isinstance(error.filename, str) and not error.filename.startswith(str(path.parent))
        return None if elsewhere and error.errno != errno.ENOSPC else os.strerror(error.errno)
    try:  # libraries that write on their own say it in their own errors
        full = shutil.disk_usage(path.parent).free < 1 << 16
    except OSError:
        return None
    return os.strerror(errno.ENOSPC) if full else None
