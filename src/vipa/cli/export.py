"""Data for other programs: conversations, LeRobot sets, a data set on the hub."""

from pathlib import Path
from typing import Annotated, Literal

import tyro


def conversations(
    data: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    style: Literal["internvl", "llava"] = "internvl",
) -> None:
    """Questions and motions of a Hand3D folder as conversations, with their images.

    style: JSONL as InternVL's training reads it, or JSON as LLaVA's.
    """
    from vipa.hand3d.export.conversations import export_conversations

    counts = export_conversations(data, out, style)
    print(f"written: {out} ({', '.join(f'{name} {count}' for name, count in counts.items())})")


def lerobot(
    data: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    root: Path,
    rate: float = 10.0,
) -> None:
    """Wrist motions of the clips of a Hand3D folder as a LeRobot v3 set, one episode a clip.

    root: folder of the source's files: a Hand3D folder keeps the frames that are asked about, not whole videos. rate:
    rows a second.
    """
    from vipa.hand3d.export.lerobot_v3 import export_lerobot, source_clips

    counts = export_lerobot(source_clips(data, root), out, rate)
    print(f"written: {out} ({', '.join(f'{name} {count}' for name, count in counts.items())})")


def episodes(
    folder: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    pictures: Literal["video", "image"] | None = None,
) -> None:
    """Robot episodes of a LeRobot set of version 2.0, 2.1 or 3 as a LeRobot v3 set.

    pictures: H.264, or images in the tables; left out, as they are.
    """
    from vipa.io.progress import counter
    from vipa.robots.lerobot_export import export_episodes

    with counter("exporting", "episodes") as count:
        number = export_episodes(folder, out, pictures, lambda done, total: count(done=done, total=total))
    print(f"written: {out} ({number} episodes)")


def hub(
    data: Annotated[Path, tyro.conf.Positional],
    repo: Annotated[str, tyro.conf.Positional],
    public: bool = False,
) -> None:
    """Uploads a finished Hand3D folder as a data set of the Hugging Face hub, private unless told otherwise.

    repo: owner/name. HF_TOKEN says who you are, HF_ENDPOINT another hub.
    """
    from vipa.hand3d.dataset.card import push_to_hub

    print(f"uploaded: {push_to_hub(data, repo, private=not public)}")


FORMS = {"conversations": conversations, "lerobot": lerobot, "episodes": episodes, "hub": hub}


def main(args: list[str]) -> None:
    tyro.extras.subcommand_cli_from_dict(FORMS, args=args, prog="vipa export")
