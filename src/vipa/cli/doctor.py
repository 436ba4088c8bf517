"""What this machine has for vipa, and what to do about what is missing."""

import sys
from typing import Literal

import tyro

from vipa.cli._checks import CHECKS

Topic = Literal["python", "rendering", "video", "hands", "gpu", "optional", "weights", "disk"]


def doctor(only: tuple[Topic, ...] = ()) -> None:
    """What this machine has, and what to do about what is missing. Exit code 1 when something required is missing.

    only: check these topics and no others.
    """
    missing = False
    for topic, check in CHECKS.items():
        if only and topic not in only:
            continue
        for finding in check():
            mark = {"ok": "  ok ", "optional": "  -- ", "missing": " !!! "}[finding.state]
            print(f"{mark}  {finding.name:<22} {finding.found}")
            if finding.advice:
                print(f"       {'':<22} -> {finding.advice}")
            missing |= finding.state == "missing"
    if missing:
        sys.exit(1)


def main(args: list[str]) -> None:
    tyro.cli(doctor, args=args, prog="vipa doctor")
