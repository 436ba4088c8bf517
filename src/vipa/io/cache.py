"""Where what can be made again is kept between runs."""

import os
import tempfile
from pathlib import Path


def cache_folder(*parts: str) -> Path:
    """A path below $VIPA_CACHE, or else ~/.cache/vipa; below the machine's temporary folder where that cannot be
    written. The folder itself need not exist."""
    root = Path(os.environ.get("VIPA_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "vipa")
    root = root.expanduser()
    try:
        root.mkdir(parents=True, exist_ok=True)
        usable = os.access(root, os.W_OK)
    except OSError:
        usable = False
    return (root if usable else Path(tempfile.gettempdir()) / f"vipa-{os.getuid()}").joinpath(*parts)
