"""Where a model comes from: the weights of `nano` that ship with the package, or a folder.

weights/nano/foundation/vlm, foundation/spatial   the two pretrained parts, float16
weights/nano/stage1|stage2|stage3.safetensors     what each stage trained, float16; later files build on earlier
weights/nano/conventions.json                     what each stage's motion tokens and direction words mean
weights/nano/logs, results                        of the commands that made them
"""

import json
from pathlib import Path

from safetensors.torch import load_file

from vipa.io.hashing import hash_files
from vipa.models import VipaForConditionalGeneration, VipaProcessor
from vipa.models.loading import check_folder, check_safetensors, load_model, load_processor, load_tokenizer
from vipa.models.presets import nano_action_config, nano_fusion, nano_processor

NANO = Path(__file__).parents[1] / "weights" / "nano"
CONVENTIONS = "conventions.json"
NANO_STAGES = ("foundation", "stage1", "stage2", "stage3")


def load_start(start: str | Path, dtype: str = "float32") -> tuple[VipaForConditionalGeneration, VipaProcessor]:
    """Model (evaluation mode) and processor of `nano:STAGE` or of a folder.

    dtype: of a folder's weights; `auto` is what it says of itself. nano is always float32.

    A folder is one that training or `save_pretrained` wrote, or holds two parts `vlm` and `spatial`, which are
    joined as nano's foundation is. ValueError for anything else.
    """
    name = str(start)
    if name.startswith("nano:"):
        return load_nano(name.removeprefix("nano:"))
    folder = Path(start)
    if (folder / "vlm" / "config.json").exists():
        return join_nano(folder)
    if not (folder / "config.json").exists():
        raise _no_model(name)
    model = load_model(VipaForConditionalGeneration, folder, expected="vipa", dtype=dtype)
    return model, load_processor(VipaProcessor, folder)


def start_hash(start: str | Path) -> str:
    """Sixteen hex digits of what a start's files hold. ValueError where `load_start` has one."""
    name = str(start)
    if name.startswith("nano:"):
        stages = _stages_until(name.removeprefix("nano:"))
        parts = [path for part in ("vlm", "spatial") for path in (NANO / "foundation" / part).glob("*")]
        return hash_files(NANO, [*parts, *(_stage_file(stage) for stage in stages)])
    folder = Path(start)
    parts = ("vlm", "spatial") if (folder / "vlm" / "config.json").exists() else ("",)
    files = [
        path for part in parts for path in (folder / part).glob("*") if path.suffix in (".safetensors", ".json")
    ]
    if not any(path.name == "config.json" for path in files):
        raise _no_model(name)
    for part in parts:
        check_folder(folder / part)
    return hash_files(folder, files)


def _no_model(name: str) -> ValueError:
    return ValueError(
        f"{name!r}: no model here; expected nano:{'|'.join(NANO_STAGES)}, or a folder with config.json"
    )


def _stages_until(stage: str) -> tuple[str, ...]:
    """The trained stages that make nano after `stage`. ValueError for an unknown one."""
    if stage not in NANO_STAGES:
        raise ValueError(f"nano has no stage {stage!r}; stages: {', '.join(NANO_STAGES)}")
    return NANO_STAGES[1 : NANO_STAGES.index(stage) + 1]


def _stage_file(stage: str) -> Path:
    path = NANO / f"{stage}.safetensors"
    if not path.exists():
        raise ValueError(f"{path.name} is not in this installation: {path}")
    return path


def load_nano(stage: str) -> tuple[VipaForConditionalGeneration, VipaProcessor]:
    """The shipped nano after a stage. ValueError for an unknown stage or one that is not in this installation."""
    stages = _stages_until(stage)
    model, processor = join_nano(NANO / "foundation")
    for earlier in stages:
        overlay(model, _stage_file(earlier))
    model.config.conventions = json.loads((NANO / CONVENTIONS).read_text())[stage]
    return model, processor


def join_nano(folder: Path) -> tuple[VipaForConditionalGeneration, VipaProcessor]:
    """nano from its two pretrained parts; fusion, action queries and action head are new (seeded by the caller)."""
    if not (folder / "vlm" / "config.json").exists():
        raise ValueError(f"{folder}: no foundation weights here; make them with `vipa train foundation`")
    model = VipaForConditionalGeneration.from_parts(
        folder / "vlm", folder / "spatial", fusion=nano_fusion(), action=nano_action_config()
    )
    return model.float().eval(), nano_processor(load_tokenizer(folder / "vlm"))


def overlay(model: VipaForConditionalGeneration, path: Path) -> None:
    """Replace the parameters that a stage trained. ValueError where the file does not fit."""
    check_safetensors(path)
    tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    _, unexpected = model.load_state_dict(tensors, strict=False)
    if unexpected:
        raise ValueError(f"{path}: parameters {sorted(unexpected)[:3]} are not in the model")
