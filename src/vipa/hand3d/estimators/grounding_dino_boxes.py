"""Boxes of named objects by GroundingDINO: the name that `zero_shot` had when it knew this family alone."""

from vipa.hand3d.estimators.zero_shot_boxes import best_boxes, open_boxes, prompt_of, token_spans

__all__ = ["best_boxes", "open_boxes", "prompt_of", "token_spans"]
