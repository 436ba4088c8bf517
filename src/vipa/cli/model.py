"""Sizes and costs of a model without its weights (`summary`); whether a checkpoint is sound (`check`)."""

import sys
from typing import Annotated

import tyro


def _known(words: list[str]) -> str:
    from vipa.models.presets import find_preset

    find_preset(words[0])
    return words[0]


PRESET = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="PRESET",
    instance_from_str=_known,
    is_instance=lambda value: isinstance(value, str),
    str_from_instance=lambda name: [name],
)


def summary(
    preset: Annotated[str, tyro.conf.Positional, PRESET],
    /,
    views: tuple[int, ...] = (1, 2, 3),
    text_tokens: int = 48,
    spatial_size: int | None = None,
) -> None:
    """Parameters per part, trained per stage, operations and memory per observation (meta device, seconds).

    preset: nano, vipa-1b, vipa-2b, or of another package. views: camera counts to price. text_tokens: of the prompt.
    spatial_size: pixels of the 3D encoder's input.
    """
    from vipa.models.presets import find_preset
    from vipa.models.summary import summarise
    from vipa.training.runs import STAGE1_PARTS, STAGE2_PARTS, STAGE3_PARTS

    found = find_preset(preset)
    stages = {"stage1": STAGE1_PARTS, "stage2": STAGE2_PARTS, "stage3": STAGE3_PARTS}
    size = spatial_size or found.spatial_size
    print(summarise(found.config(), stages, views=views, text_tokens=text_tokens, spatial_size=size).text())


def check(model: Annotated[str, tyro.conf.Positional], /, tolerance: float | None = None) -> None:
    """Whether a trained model is what was saved, bit for bit, and computes what it computed then, up to rounding. Exit
    code 1 where not.

    model: a folder as training wrote it (its `model` folder), or a shipped one (nano:stage1). tolerance: largest
    difference of outputs, relative to the largest recorded value; by default 1e-4 in fp32 (another processor makes
    about 1e-6), 0.03 in half precision and where the record is of another kind of device.
    """
    from vipa.models import selfcheck

    verdict = selfcheck.verify(model, tolerance=tolerance)
    weights = {True: "as saved", False: "NOT as saved", None: "not recorded"}[verdict.weights]
    outputs = "as recorded" if verdict.difference <= verdict.tolerance else "NOT as recorded"
    print(
        f"{model}: weights {weights}; outputs {outputs}, relative difference {verdict.difference:.1e} "
        f"(at most {verdict.tolerance:.0e})"
    )
    if not verdict.sound:
        sys.exit(1)


def main(args: list[str]) -> None:
    tyro.extras.subcommand_cli_from_dict({"summary": summary, "check": check}, args=args, prog="vipa model")
