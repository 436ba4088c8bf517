"""The README's picture: one clip of the tabletop world on its way through annotation.

python -m vipa.nano.poster docs/images/pipeline.png
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import wrap

import numpy as np
import tyro
from PIL import Image, ImageDraw

from vipa.clips.drawing import SIDE_COLOURS, TRUTH_COLOUR, Canvas, depth_colours, font, save_image
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.pipeline.annotate import annotate
from vipa.hands.skeleton import WRIST
from vipa.worlds.film import film_clip
from vipa.worlds.seeds import TRAIN

SIZE, CAPTION = 360, 68


def poster(seed: int = TRAIN[3]) -> np.ndarray:
    """Five panels (SIZE + CAPTION, 5 * SIZE, 3): film, hand and boxes, depth, a question, a motion."""
    clip = replace(film_clip(seed, size=(SIZE, SIZE)), split="train")
    with TemporaryDirectory() as folder:
        annotate([clip], folder)
        data = Hand3D(folder)
        questions = [r for r in data.visual() if r.category == "spatial_relation" and len(r.frame_ids) == 1]
        motions = [r for r in data.action() if r.task == "instructional_generation"]
    question = max(questions, key=lambda r: r.distance)
    motion = max(motions, key=lambda r: max(float(np.ptp(p, axis=0).max()) for p in r.trajectories.values()))
    at, then = (int(r.rsplit("/", 1)[1]) for r in (question.frame_ids[-1], motion.frame_id))
    image = clip.frames.read([at])[0]
    assert clip.depth is not None
    assert question.hand is not None
    hand = clip.hand(question.hand)
    assert hand is not None
    things = Canvas(image, 1, clip.intrinsics)
    things.boxes([(o.name, o.boxes[at]) for o in clip.objects or () if o.boxes is not None])
    things.hand(hand.joints_camera[at])
    asked = Canvas(image, 1, clip.intrinsics)
    start = hand.joints_camera[at, WRIST]
    asked.arrow(start, start + np.array(question.displacement), TRUTH_COLOUR)
    moving = Canvas(clip.frames.read([then])[0], 1, clip.intrinsics)
    for side, points in motion.trajectories.items():
        moving.path(points, SIDE_COLOURS[side])
    panels = [
        (image, "a filmed clip"),
        (things.array, "hand joints, named objects"),
        (depth_colours(clip.depth.read([at])[0]), "depth in metres"),
        (asked.array, f"“{question.question}”\n{question.answer}"),
        (moving.array, f"“{motion.prompt}”\n{motion.response[:44]}..."),
    ]
    return np.concatenate([_panel(picture, words) for picture, words in panels], axis=1)


def _panel(picture: np.ndarray, words: str) -> np.ndarray:
    page = Image.new("RGB", (SIZE, SIZE + CAPTION), "white")
    page.paste(Image.fromarray(picture).resize((SIZE - 8, SIZE - 8)), (4, 4))
    draw, y = ImageDraw.Draw(page), SIZE + 2
    for number, paragraph in enumerate(words.split("\n")):
        for line in wrap(paragraph, 46):
            draw.text((8, y), line, fill="#16875a" if number else "#1d2129", font=font(13))
            y += 19
    return np.asarray(page)


def main(out: tyro.conf.Positional[Path]) -> None:
    """Draws the poster into the file `out`."""
    print(save_image(poster(), out))


if __name__ == "__main__":
    tyro.cli(main)
