"""The weights of nano that ship with the package, and the preset `nano` (entry point group `vipa.presets`).

weights/nano/foundation/vlm, foundation/spatial   the two pretrained parts, float16
weights/nano/stage1|stage2|stage3.safetensors     what each stage trained, float16; later files build on earlier
weights/nano/conventions.json                     what each stage's motion tokens and direction words mean
weights/nano/logs, results                        of the commands that made them
"""

import json
from pathlib import Path

from safetensors.torch import load_file

from vipa.hands.motion_codec import MotionCodec
from vipa.io.hashing import hash_files
from vipa.models.loading import check_safetensors
from vipa.models.modeling import VipaForConditionalGeneration
from vipa.models.presets import Preset, Shipped
from vipa.models.processing import VipaProcessor
from vipa.models.starts import join_parts
from vipa.nano.sizes import IMAGE_SIZE, CountedVocabulary, nano_vipa_config

NANO = Path(__file__).parents[1] / "weights" / "nano"
CONVENTIONS = "conventions.json"
NANO_STAGES = ("foundation", "stage1", "stage2", "stage3")


def load_nano(stage: str) -> tuple[VipaForConditionalGeneration, VipaProcessor]:
    """The shipped nano after a stage. ValueError for one that is not in this installation."""
    if not (NANO / "foundation" / "vlm" / "config.json").exists():
        raise ValueError(f"{NANO}: no foundation weights here; make them with `vipa train foundation`")
    model, processor = join_parts(NANO / "foundation")
    for path in stage_files(stage):
        overlay(model, path)
    model.config.conventions = json.loads((NANO / CONVENTIONS).read_text())[stage]
    return model, processor


def stage_files(stage: str) -> list[Path]:
    """What the trained stages up to `stage` learned, in order. ValueError for one that is not in this installation."""
    paths = [NANO / f"{name}.safetensors" for name in NANO_STAGES[1 : NANO_STAGES.index(stage) + 1]]
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path.name} is not in this installation: {path}")
    return paths


def content(stage: str) -> str:
    """Sixteen hex digits of all files that decide nano after a stage."""
    parts = [path for part in ("vlm", "spatial") for path in (NANO / "foundation" / part).glob("*")]
    return hash_files(NANO, [*parts, *stage_files(stage)])


def beside(stage: str, name: str) -> Path:
    """A file of a stage's model; the last stage's lie beside its weights."""
    return (NANO if stage == NANO_STAGES[-1] else NANO / stage) / name


def overlay(model: VipaForConditionalGeneration, path: Path) -> None:
    """Replace the parameters that a stage trained. ValueError where the file does not fit."""
    check_safetensors(path)
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    _, unexpected = model.load_state_dict(tensors, strict=False)
    if unexpected:
        raise ValueError(f"{path}: parameters {sorted(unexpected)[:3]} are not in the model")


PRESET = Preset(
    config=lambda: nano_vipa_config(CountedVocabulary(1024 + len(MotionCodec().tokens))),
    spatial_size=IMAGE_SIZE,
    shipped=Shipped(NANO_STAGES, load_nano, content, beside),
)
