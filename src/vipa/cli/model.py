"""Sizes and costs of a model, without its weights: `vipa model summary vipa-2b`."""

from typing import Annotated, Literal

import tyro


def summary(
    preset: Annotated[Literal["nano", "vipa-2b"], tyro.conf.Positional],
    /,
    views: tuple[int, ...] = (1, 2, 3),
    text_tokens: int = 48,
    spatial_size: int | None = None,
) -> None:
    """Parameters per part, trained per stage, operations and memory per observation (meta device, seconds).

    views: camera counts to price. text_tokens: of the prompt. spatial_size: pixels of the 3D encoder's input.
    """
    from vipa.models import preset_config
    from vipa.models.summary import summarise
    from vipa.training.stages import STAGE1_PARTS, STAGE2_PARTS, STAGE3_PARTS

    size = spatial_size or {"nano": 112, "vipa-2b": 432}[preset]
    stages = {"stage1": STAGE1_PARTS, "stage2": STAGE2_PARTS, "stage3": STAGE3_PARTS}
    config = preset_config(preset)
    print(summarise(config, stages, views=views, text_tokens=text_tokens, spatial_size=size).text())


def main(args: list[str]) -> None:
    tyro.extras.subcommand_cli_from_dict({"summary": summary}, args=args, prog="vipa model")
