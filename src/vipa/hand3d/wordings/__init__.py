"""Wordings as data: at least twenty per kind of question and of motion task.

Short plain English of few different words, so that a small language model can learn them.
"""

from vipa.hand3d.wordings.motion import MOTION_WORDINGS
from vipa.hand3d.wordings.visual import VISUAL_WORDINGS

__all__ = ["MOTION_WORDINGS", "VISUAL_WORDINGS"]
