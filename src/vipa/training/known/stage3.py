"""Post-training on robot demonstrations: language model and action head learn (section 3.3)."""

from dataclasses import replace
from pathlib import Path

from vipa.data.spec import DataSpec
from vipa.io.hub_data import local_folder
from vipa.training.runs import STAGE3_PARTS, Preset, TrainRun, as_nano, on_gpus, start_of

SHARE = 16
"""One row of other data for so many of robots'."""
WEIGHT = 0.3
"""Of the loss of other data."""


def make(
    data: tuple[Path, ...],
    out: Path,
    preset: Preset = "nano",
    start: str | None = None,
    robot: tuple[str, ...] = (),
    held_out: Path | None = None,
    also: tuple[str, ...] = (),
    max_delay: int = 0,
) -> TrainRun:
    """The run of a preset. data: robot demonstrations, of one robot or several; folders, or names on the hub. robot:
    whose files read them, one for each folder (`vipa robots list`); left out, the folders say themselves what their
    numbers mean. held_out: a folder of the first of these robots, which is looked at (at the end, and after every
    `--validate-every` steps) and not learned from. also: other data that it learns from beside, such as
    `hand3d_visual=FOLDER`, so that words and space are not forgotten (not the paper's). start: as of `TrainRun`; left
    out, nano after stage 2. The action head is fitted to the robots. max_delay: as of `DataSpec`, for policies that are
    played in real time (docs/serving.md)."""
    folders = tuple(map(local_folder, (data,) if isinstance(data, Path) else data))
    robots = (robot,) if isinstance(robot, str) else tuple(robot)
    if robots and len(robots) != len(folders):
        raise ValueError(f"stage3: {len(folders)} folders of data and {len(robots)} robots; name one for each")

    def specs(batch: int, noise_draws: int) -> tuple[DataSpec, ...]:
        share = 1 / len(folders)
        return tuple(
            DataSpec(
                "episodes",
                path,
                max(1, round(batch * share)),
                share,
                noise_draws=noise_draws,
                max_delay=max_delay,
                robot=name,
            )
            for path, name in zip(folders, robots or [None] * len(folders))
        )

    run = TrainRun(
        name="stage3",
        start=start or start_of(preset, "stage2"),
        out=out,
        data=specs(128, 1),
        trained=STAGE3_PARTS,
        steps=30_000,
        learning_rate=5e-5,
        weight_decay=1e-5,
        warmup=0.05,
    )
    if preset == "nano":
        run = replace(as_nano(run), data=specs(32, 8), steps=2_200, learning_rate=5e-4)
    if also:
        batch = max(1, run.data[0].batch * len(folders) // SHARE)
        run = replace(run, data=(*run.data, *(beside(said, batch) for said in also)))
    if held_out is not None:
        seen = replace(run.data[0], path=local_folder(held_out), weight=1.0)
        run = replace(run, validation=(seen,), validate_every=run.steps)
    return on_gpus(run, preset)


def beside(said: str, batch: int) -> DataSpec:
    """Data of `also`. ValueError for words of another form, or a kind that is unknown."""
    kind, _, folder = said.partition("=")
    if not folder or kind == "episodes":
        raise ValueError(f"also {said!r}: expected kind=folder, such as hand3d_visual=DATA")
    from vipa.data.kinds import KINDS  # here: it takes torch, which --help goes without

    KINDS.load(kind)
    return DataSpec(kind, local_folder(Path(folder)), batch, WEIGHT, turns=6)
