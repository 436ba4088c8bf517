"""Where a model comes from: NAME:STAGE of a preset that ships weights (nano:stage1), or a folder."""

from pathlib import Path
from typing import Any

from vipa.hands.motion_codec import MotionCodec
from vipa.io.hashing import hash_files
from vipa.models.configuration import VipaConfig
from vipa.models.loading import check_folder, check_type, load_model, load_processor, load_tokenizer, read_json
from vipa.models.modeling import VipaForConditionalGeneration
from vipa.models.motion_tokens import add_motion_tokens
from vipa.models.presets import Preset, Shipped, find_preset, preset_names, processor_of
from vipa.models.processing import VipaProcessor
from vipa.models.prompt_layout import IMAGE_TOKEN
from vipa.moved import old_name

FUSION_FIELDS = ("kind", "source", "attention_width", "heads", "alpha_init", "branch_init", "dropout")


def load_start(start: str | Path, dtype: str = "float32") -> tuple[VipaForConditionalGeneration, VipaProcessor]:
    """Model (evaluation mode) and processor of NAME:STAGE or of a folder.

    dtype: of a folder's weights; `auto` is what it says of itself. Shipped ones and joined parts are float32.

    A folder is one that training or `save_pretrained` wrote, or holds two parts `vlm` and `spatial`, which are joined
    (`join_parts`). ValueError for anything else.
    """
    if shipped := _shipped(start):
        return shipped[0].load(shipped[1])
    folder = Path(start)
    if (folder / "vlm" / "config.json").exists():
        return join_parts(folder)
    require_model(start)
    model = load_model(VipaForConditionalGeneration, folder, expected="vipa", dtype=dtype)
    processor = load_processor(VipaProcessor, folder)
    _require_tokenizer(folder, model.config, processor.tokenizer)
    return model, processor


def start_hash(start: str | Path) -> str:
    """Sixteen hex digits of what a start's files hold. ValueError where `load_start` has one."""
    if shipped := _shipped(start):
        return shipped[0].content(shipped[1])
    folder = Path(start)
    parts = ("vlm", "spatial") if (folder / "vlm" / "config.json").exists() else ("",)
    files = [
        path for part in parts for path in (folder / part).glob("*") if path.suffix in (".safetensors", ".json")
    ]
    if not any(path.name == "config.json" for path in files):
        require_model(start)
    for part in parts:
        check_folder(folder / part)
    return hash_files(folder, files)


def beside(start: str | Path, name: str) -> Path:
    """Where a file lies that belongs to a start's model, such as its action contract; it need not be there.

    ValueError where there is no model."""
    if shipped := _shipped(start):
        return shipped[0].beside(shipped[1], name)
    require_model(start)
    return Path(start) / name


def require_model(start: str | Path) -> None:
    """ValueError where a folder holds no model."""
    if not (Path(start) / "config.json").exists():
        known = [f"{name}:{'|'.join(s.stages)}" for name in preset_names() if (s := find_preset(name).shipped)]
        raise ValueError(
            f"{str(start)!r}: no model here; expected {', '.join([*known, 'or a folder with config.json'])}"
        )


def _require_tokenizer(folder: Path, config: VipaConfig, tokenizer: Any) -> None:
    """ValueError where the tokenizer gives the tokens that the model knows by number other ones."""
    learned = {IMAGE_TOKEN: config.image_token_id}
    if config.motion_token_start is not None:
        tokens = MotionCodec(bins=config.motion_bins).tokens
        learned |= {t: config.motion_token_start + i for i, t in enumerate(tokens) if i in (0, len(tokens) - 1)}
    for token, number in learned.items():
        if (said := tokenizer.convert_tokens_to_ids(token)) != number:
            raise ValueError(
                f"{folder}: its tokenizer is not the one that the model learned with: {token} is {said}, was {number}; "
                "put back the files that were saved with the model"
            )


def _shipped(start: str | Path) -> tuple[Shipped, str] | None:
    """Where the weights of NAME:STAGE are; None for anything else. ValueError for an unknown stage."""
    name, colon, stage = str(start).partition(":")
    shipped = find_preset(name).shipped if colon and name in preset_names() else None
    if shipped is None:
        return None
    if stage not in shipped.stages:
        raise ValueError(f"{name} has no stage {stage!r}; stages: {', '.join(shipped.stages)}")
    return shipped, stage


def join_parts(folder: Path) -> tuple[VipaForConditionalGeneration, VipaProcessor]:
    """A model from two pretrained parts, `vlm` and `spatial`, with the fusion and the action head of the preset whose
    language model it is; these and the action queries are new (seeded by the caller), as are motion tokens where the
    vocabulary has none. ValueError for a language model of no preset."""
    preset = _preset_of(folder / "vlm")
    sizes = preset.config()
    fusion = {name: getattr(sizes.spatial_fusion_config, name) for name in FUSION_FIELDS}
    model = VipaForConditionalGeneration.from_parts(
        folder / "vlm", folder / "spatial", fusion=fusion, action=sizes.action_config
    )
    processor = processor_of(model.config, load_tokenizer(folder / "vlm"), preset.spatial_size)
    if model.config.motion_token_start is None:
        add_motion_tokens(model, processor.tokenizer)
    return model.float().eval(), processor


def _preset_of(vlm: Path) -> Preset:
    check_type(vlm, ("internvl", "vipa"))
    text = read_json(vlm / "config.json").get("text_config", {})
    own = (text.get("hidden_size"), text.get("num_hidden_layers"))
    for name in preset_names():
        preset = find_preset(name)
        known = preset.config().text_config
        if own == (known.hidden_size, known.num_hidden_layers):
            return preset
    raise ValueError(
        f"{vlm}: its language model (width {own[0]}, {own[1]} layers) is that of no preset "
        f"({', '.join(preset_names())}); join it with VipaForConditionalGeneration.from_parts (docs/model.md)"
    )


def __getattr__(name: str) -> Any:
    return old_name(__name__, name)
