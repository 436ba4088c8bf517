"""The data set's card: what `load_dataset` reads, and what a person wants to know first."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import MANIFEST, TABLES, columns_text
from vipa.hand3d.dataset.stats import stats_text
from vipa.hands.conventions import Conventions
from vipa.io.files import atomic_write

CARD = "README.md"

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

{conventions}

Licences of the sources: {licences}. The data set may be passed on only as far as each of them allows.

{stats}

## Columns

{columns}
"""


def card_text(data: Hand3D, name: str) -> str:
    """README.md with one configuration per table, the composition and the quality; `name` is what opens it."""
    manifest = data.manifest
    lines = ["---", "pretty_name: Hand3D", "tags: [robotics, hands, 3d, vqa]", "configs:"]
    for table, by_split in manifest["tables"].items():
        if not by_split:
            continue
        lines += [f"- config_name: {table}", "  data_files:"]
        for split, shards in by_split.items():
            lines += [f"  - split: {split}", "    path:", *(f"    - {shard['file']}" for shard in shards)]
    licences = sorted({f"{clip.source}: {clip.licence}" for clip in data.clips()})
    text = TEXT.format(
        conventions=conventions_text(data.conventions),
        version=manifest["version"],
        config_hash=manifest["config_hash"],
        name=name,
        licences="; ".join(licences) or "none",
        stats=stats_text(data),
        columns="\n\n".join(f"`{table}`:\n\n{columns_text(table)}" for table in TABLES),
    )
    return "\n".join([*lines, "---", "", text])


def conventions_text(said: Conventions) -> str:
    """What motion tokens and direction words mean, in words."""
    codec = said.codec
    assert codec is not None
    volume = ", ".join(f"{axis} {a:g} to {b:g}" for axis, a, b in zip("xyz", codec.low, codec.high))
    return (
        f"A motion token `<mx_i>` is one of {codec.bins} equal bins of its axis; the volume is {volume} metres. A "
        f"direction is named where its component of the unit displacement exceeds {said.gamma:g}. A model is to be "
        "trained and evaluated on data with the same values."
    )


def write_card(out: Path) -> None:
    """The card of the finished data set in folder `out`."""
    atomic_write(out / CARD, card_text(Hand3D(out), out.resolve().name))


def public_manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest without what is of this machine: folders become their last name, server and cache are left out."""
    config = deepcopy(manifest["config"])
    config["endpoint"] |= {"url": None, "cache": None}
    for section, field in (("points", "weights"), ("objects", "detector")):
        value = config[section][field]
        if value is not None and (Path(value).is_absolute() or Path(value).exists()):
            config[section][field] = Path(value).name
    return manifest | {"config": config}


def push_to_hub(path: str | Path, repo_id: str, private: bool = True) -> str:
    """Uploads the finished data set in one commit and returns the commit's address.

    The tables that the manifest lists, the card under the name `repo_id`, and the manifest without this machine's
    folders and server; not the stage files. HF_ENDPOINT names another hub.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    data, api = Hand3D(path), HfApi()
    shards = [
        f["file"] for by_split in data.manifest["tables"].values() for files in by_split.values() for f in files
    ]
    content: dict[str, bytes | str] = {name: str(data.path / name) for name in shards}
    content["README.md"] = card_text(data, repo_id).encode()
    content[MANIFEST] = json.dumps(public_manifest(data.manifest), indent=1, sort_keys=True).encode()
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=what) for name, what in content.items()]
    api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    commit = api.create_commit(repo_id, operations, commit_message="Hand3D", repo_type="dataset")
    return commit.commit_url
