"""Where and with what a result was made."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from vipa.io.child_process import cores

LIBRARIES = ("vipa", "torch", "transformers", "numpy", "mujoco")


def provenance() -> dict[str, Any]:
    """`date` (UTC), `commit` (with "+" where files differ from it; None: not from git), `versions`, `machine`."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": now, "commit": commit(), "versions": versions(LIBRARIES), "machine": machine()}


def provenance_words() -> str:
    """The same in a sentence, for a page of results."""
    made = provenance()
    at = f"commit {made['commit']}" if made["commit"] else f"version {made['versions']['vipa']}"
    on = ", ".join(str(made["machine"][name]) for name in ("gpu", "processor") if name in made["machine"])
    return f"Made at {at} on {on}, {made['machine']['cores']} cores, {made['date']}."


def versions(names: tuple[str, ...]) -> dict[str, str]:
    """Of installed packages."""
    return {name: _version(name) for name in names}


def machine() -> dict[str, Any]:
    """Processor, its cores that this process may use, memory in GB, and the GPU where torch is loaded and has one."""
    said: dict[str, Any] = {"processor": _processor(), "cores": cores(), "python": platform.python_version()}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        said["memory_gb"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        said["gpu"] = torch.cuda.get_device_name()
    return said


@cache
def commit() -> str | None:
    """Of the checkout that this package is in, or that it was installed from."""
    root = Path(__file__).parents[3]
    if (root / ".git").exists():
        try:
            short = _git(root, "rev-parse", "--short=10", "HEAD")
            return short + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
        except (OSError, subprocess.SubprocessError):
            return None
    try:
        text = importlib.metadata.distribution("vipa").read_text("direct_url.json")
        return json.loads(text or "{}").get("vcs_info", {}).get("commit_id")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
