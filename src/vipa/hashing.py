"""What files hold, as a few hex digits: the same content has the same digits, wherever it lies."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def hash_files(root: Path, files: Iterable[Path]) -> str:
    """Sixteen hex digits of these files' content and of their paths below `root`, in the order of the paths."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(root).as_posix()}\0{hash_file(path)}\0".encode())
    return digest.hexdigest()[:16]


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
