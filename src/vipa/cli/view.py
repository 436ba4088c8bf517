"""Pictures of a data set: a page, one clip or robot episode in the Rerun viewer, or a point cloud."""

from pathlib import Path
from typing import Annotated

import tyro

from vipa.io.hub_data import local_folder


def view(
    data: Annotated[Path, tyro.conf.Positional],
    out: Path | None = None,
    clips: int = 12,
    clip: str | None = None,
    rerun: bool = False,
    root: Path | None = None,
    weights: str | None = None,
    policy: str | None = None,
    robot: str | None = None,
) -> None:
    """Writes a self-contained HTML page of a Hand3D data set or of robot episodes (LeRobot), opens one clip or episode
    in Rerun's viewer, or writes the fused point cloud of a clip or a video.

    data: folder of the data set; for a point cloud a video file will do. out: what is written, by its ending: a page
    (.html, by default gallery.html or episodes.html in the data set), a Rerun recording (.rrd), a point cloud (.ply).
    clips: how many clips or episodes the page shows. clip: id of the one to show; of an episode, its number will do
    (-1: the last). rerun: open the viewer. root: folder of the source's files, whose depth becomes points in the
    viewer. weights: of CUT3R (folder or hub name), for the fused cloud. policy: a model after stage 3, whose chunks are
    drawn over the recorded actions. robot: whose file says what the numbers mean, where the data set does not.
    """
    data = local_folder(data)
    if (data / "meta" / "info.json").is_file() or robot is not None:
        view_episodes(data, out, clips, clip, rerun, policy, robot)
        return
    if policy is not None:
        raise ValueError(f"{data}: --policy is for robot episodes, and this is no LeRobot data set")
    from vipa.hand3d.export import rerun_view as views

    kind = ".rrd" if rerun and out is None else ".html" if out is None else out.suffix.lower()
    if kind not in (".html", ".rrd", ".ply"):
        raise ValueError(f"--out {out}: the ending must be .html, .rrd or .ply")
    if kind != ".ply" and data.is_file():
        raise ValueError(
            f"{data} is a file: a video gives a point cloud only; pass --out FILE.ply --weights FOLDER"
        )
    if kind == ".html":
        print(f"written: {views.view(data, out, clips, clip)}")
        return
    if kind == ".ply":
        assert out is not None
        print(f"written: {out} ({write_cloud(data, clip, weights, out)} points)")
        return
    from vipa.hand3d.export.cloud import clip_images, fuse

    record = views.clip_of(data, clip)
    source = None if root is None else views.source_clip(record, root)
    cloud = None if weights is None else fuse(clip_images(data, record.id), weights)
    views.view_clip(data, record.id, source, out, cloud)
    if out is not None:
        print(f"written: {out} (open it with: rerun {out})")


def view_episodes(
    data: Path, out: Path | None, count: int, which: str | None, rerun: bool, model: str | None, robot: str | None
) -> None:
    """As `view`, of robot episodes."""
    from vipa.robots import episode_page as page
    from vipa.robots.policy import VipaPolicy
    from vipa.robots.predictions import predict

    if out is not None and out.suffix.lower() not in (".html", ".rrd"):
        raise ValueError(f"--out {out}: of robot episodes the ending must be .html or .rrd")
    episodes, policy = page.stated(data, robot), None
    if model is not None:
        policy = VipaPolicy.from_pretrained(model, robot=episodes.contract.robot if episodes else None)
    episodes = episodes or page.by_names(data, policy and policy.contract)
    if policy is not None:
        page.check_policy(policy, episodes)
    if (out is None and not rerun) or (out is not None and out.suffix.lower() == ".html"):
        path = out or data / "episodes.html"
        page.write_page(data, episodes, path, page.choose(episodes, count, which), policy, model or "")
        print(f"written: {path}")
        return
    _, episode = next(page.choose(episodes, 1, which))
    page.show_in_rerun(episode, episodes.contract, predict(policy, episode) if policy else None, out)
    if out is not None:
        print(f"written: {out} (open it with: rerun {out})")


def write_cloud(data: Path, clip: str | None, weights: str | None, out: Path) -> int:
    """PLY of a clip of a data set or of a video file; returns the number of points."""
    from vipa.hand3d.export.cloud import clip_images, fuse, video_images
    from vipa.hand3d.export.rerun_view import clip_of
    from vipa.models.cut3r import write_ply

    if weights is None:
        raise ValueError("--weights is missing: a point cloud needs CUT3R's (a folder or a hub name)")
    images = video_images(data) if data.is_file() else clip_images(data, clip_of(data, clip).id)
    cloud = fuse(images, weights).cloud
    out.parent.mkdir(parents=True, exist_ok=True)
    write_ply(cloud, out)
    return len(cloud.points)


def main(args: list[str]) -> None:
    tyro.cli(view, args=args, prog="vipa view")
