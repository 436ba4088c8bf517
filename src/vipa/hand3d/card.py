"""The data set's card: what `load_dataset` reads, and what a person wants to know first."""

from pathlib import Path
from typing import Any

from vipa.hand3d.dataset import Hand3D
from vipa.hand3d.stats import stats_text
from vipa.hand3d.store import atomic_write

TEXT = """\
# Hand3D

Questions about space and wrist motions, from videos of human hands, made with `vipa annotate` (version {version},
configuration `{config_hash}`, in full in `hand3d.json`), after "Spatial-Aware VLA Pretraining through Visual-Physical
Alignment from Human Videos" (arXiv 2512.13080, section 3.2.1).

- `visual`: a question about 1-4 frames, its answer, and the relation both were made from (metres, OpenCV axes of the
  first frame's camera, degrees of camera turns).
- `action`: an observation image with a wrist motion in its camera: prompt and response with motion tokens, and the
  same trajectories in metres.
- `frames`: the images, with cameras, hands and objects. `frame_id`s of the other tables are its `id`.
- `clips`: the videos they come from, and how the scale of each was found.

```python
from datasets import load_dataset
visual = load_dataset("{name}", "visual", split="train")
```

Licences of the sources: {licences}. The data set may be passed on only as far as each of them allows.

{stats}
"""


def write_card(out: Path, manifest: dict[str, Any]) -> None:
    """README.md with one configuration per table, the composition and the quality."""
    lines = ["---", "pretty_name: Hand3D", "tags: [robotics, hands, 3d, vqa]", "configs:"]
    for table, by_split in manifest["tables"].items():
        if not by_split:
            continue
        lines += [f"- config_name: {table}", "  data_files:"]
        for split, shards in by_split.items():
            lines += [f"  - split: {split}", "    path:", *(f"    - {shard['file']}" for shard in shards)]
    data = Hand3D(out)
    licences = sorted({f"{clip.source}: {clip.licence}" for clip in data.clips()})
    text = TEXT.format(
        version=manifest["version"],
        config_hash=manifest["config_hash"],
        name=out.resolve().name,
        licences="; ".join(licences) or "none",
        stats=stats_text(data),
    )
    atomic_write(out / "README.md", "\n".join([*lines, "---", "", text]).encode())


def push_to_hub(path: str | Path, repo_id: str, private: bool = True) -> str:
    """Uploads the finished data set (tables, card, manifest; not the stage files) and returns its address."""
    from huggingface_hub import HfApi

    data = Hand3D(path)
    api = HfApi()
    api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    patterns = ["README.md", "hand3d.json", *(f"{table}/*.parquet" for table in data.manifest["tables"])]
    info = api.upload_folder(repo_id=repo_id, repo_type="dataset", folder_path=str(path), allow_patterns=patterns)
    return str(info)
