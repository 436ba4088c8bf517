"""The data set's card: what `load_dataset` reads, and what a person wants to know first."""

from pathlib import Path
from typing import Any

from vipa.hand3d.store import atomic_write


def write_card(out: Path, manifest: dict[str, Any]) -> None:
    """README.md with one configuration per table."""
    lines = ["---", "pretty_name: Hand3D", "tags: [robotics, hands, 3d, vqa]", "configs:"]
    for table, by_split in manifest["tables"].items():
        if not by_split:
            continue
        lines += [f"- config_name: {table}", "  data_files:"]
        for split, shards in by_split.items():
            lines += [f"  - split: {split}", "    path:", *(f"    - {shard['file']}" for shard in shards)]
    lines += ["---", "", "# Hand3D", ""]
    atomic_write(out / "README.md", "\n".join(lines).encode())
