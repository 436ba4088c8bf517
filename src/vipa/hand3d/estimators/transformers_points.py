"""Point maps from any depth network of transformers (AutoModelForDepthEstimation), metric or not as it says itself."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForDepthEstimation, BatchFeature, ImageProcessingMixin

from vipa.clips.clip import Clip
from vipa.clips.field_of_view import FieldOfView
from vipa.hand3d.config import PointsConfig
from vipa.hand3d.estimators.batches import Pictures, of_frames
from vipa.hand3d.estimators.pointmaps import DepthMaps
from vipa.hand3d.measure.relative_depth import depth_by_hands
from vipa.io.hashing import network_content
from vipa.models.loading import load_model, load_processor

LONGER_SIDE = 512
"""Pixels of the maps that are kept."""

Prediction = tuple[Float[np.ndarray, "h w"], float | None]
"""Of one picture; with it the horizontal field of view in degrees, where the network says it."""

Kind = Literal["canonical", "metric", "inverse"]
"""What a network predicts. canonical: inverse depth of a camera whose focal length is the picture's width (DepthPro);
metric: metres; inverse: inverse depth with an unknown factor and shift of each picture (see `relative_depth`)."""

KINDS: dict[str, Kind] = {"depth_pro": "canonical", "zoedepth": "metric", "glpn": "metric", "dpt": "inverse"}
"""Of model types whose configuration has no `depth_estimation_type`."""


class TransformersDepth:
    """weights: a folder or a hub name. Depth becomes points through the clip's intrinsics.

    A metric network keeps its metres (`ScaleConfig.force` calibrates it by hands all the same). A relative one is
    brought to metres picture by picture where hands are seen at two distances. ValueError for a network that does not
    say which of the two it is.
    """

    cached = True

    def __init__(self, weights: str):
        self.model = load_model(AutoModelForDepthEstimation, weights)
        self.kind = kind_of(self.model.config, weights)
        self.metric: bool | None = self.kind != "inverse"
        self.processor = _processor(self.model.config, weights)
        self.content = network_content(self.model, self.processor)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.nn.Module.to(self.model, self.device)

    def __call__(self, clip: Clip, frames: Sequence[int]) -> DepthMaps:
        width, height = _kept(clip.intrinsics.width, clip.intrinsics.height)
        camera = clip.intrinsics.resized(width, height)
        predicted = np.stack([depth for depth, _ in self.predictions(clip, frames, (height, width))])
        if self.kind == "metric":
            depth = predicted
        elif self.kind == "canonical":
            depth = camera.fx / width / np.clip(predicted, 1e-4, 1e4)
        else:
            depth = depth_by_hands(clip, list(frames), predicted)
        return DepthMaps(np.asarray(frames), depth.astype(np.float32), camera, metric=self.kind != "inverse")

    def field_of_view(self, clip: Clip, frames: Sequence[int]) -> FieldOfView | None:
        """What the network says of the camera (DepthPro with its head for it), of these frames together; None where it
        says nothing. Its interval holds their disagreement, and 5 % of the focal length."""
        said = [degrees for _, degrees in self.predictions(clip, frames, None)]
        tangents = np.array([np.tan(np.radians(d) / 2) for d in said if d is not None and 1 < d < 179])
        if not len(tangents):
            return None
        middle = float(np.median(tangents))
        spread = 1.4826 * float(np.median(np.abs(np.log(tangents / middle))))
        width = clip.intrinsics.width
        origin = f"estimated: {self.model.config.model_type}"
        return FieldOfView.from_focal(width / 2 / middle, float(np.hypot(spread, 0.05)), width, origin)

    def predictions(self, clip: Clip, frames: Sequence[int], size: tuple[int, int] | None) -> Iterator[Prediction]:
        """Of each of the frames."""
        return of_frames(lambda pictures: self.predict(pictures, size), clip, frames, self.device)

    @torch.inference_mode()
    def predict(self, images: Pictures, size: tuple[int, int] | None) -> list[Prediction]:
        """What the network predicts of each image, brought to `size` (height, width)."""
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.device)
        out, shape = self.model(**inputs), images.shape[1:3]
        degrees = getattr(out, "field_of_view", None)
        degrees = [None] * len(images) if degrees is None else degrees.flatten().tolist()
        predicted = out.predicted_depth.float()[:, None]
        if self.model.config.model_type == "zoedepth" and self.processor.do_pad:
            predicted = _without_margins(predicted, shape)
        # nearest: no depth between a hand and what lies behind it
        predicted = torch.nn.functional.interpolate(predicted, size or shape, mode="nearest-exact")
        return list(zip(predicted[:, 0].cpu().numpy(), degrees))


def _without_margins(predicted: Tensor, size: tuple[int, ...]) -> Tensor:
    """What is of the picture of `size` (height, width); the network saw 3 sqrt(side / 2) pixels more on each end."""
    for axis, side in zip((2, 3), size):
        margin = int(np.sqrt(side / 2) * 3) / side
        kept = predicted.shape[axis] / (1 + 2 * margin)
        begin = round(kept * margin)
        predicted = predicted.narrow(axis, begin, max(1, min(round(kept), predicted.shape[axis] - begin)))
    return predicted


def kind_of(config: Any, weights: str) -> Kind:
    """From a network's configuration. ValueError where that does not tell."""
    said = getattr(config, "depth_estimation_type", None)
    if said is not None:
        return "metric" if said == "metric" else "inverse"
    if config.model_type not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise ValueError(
            f"{weights}: a depth network of type {config.model_type!r} does not say whether its depth is in metres; "
            f"known: {known}, and those with depth_estimation_type in config.json"
        )
    return KINDS[config.model_type]


class SquarePictures:
    """DepthPro's preparation (transformers' own wants torchvision): the whole picture brought to its square."""

    def __init__(self, side: int, mean: Sequence[float], deviation: Sequence[float]):
        self.side, self.mean, self.deviation = side, tuple(mean), tuple(deviation)

    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "height width 3"]], return_tensors: str = "pt"
    ) -> BatchFeature:
        square = (self.side, self.side)
        pictures = [
            np.asarray(Image.fromarray(i).resize(square, Image.Resampling.BILINEAR), np.float32) for i in images
        ]
        scaled = (np.stack(pictures) / 255 - self.mean) / self.deviation
        return BatchFeature({"pixel_values": scaled.astype(np.float32).transpose(0, 3, 1, 2)}, return_tensors)

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


def _processor(config: Any, weights: str) -> Any:
    if config.model_type != "depth_pro":
        return load_processor(AutoImageProcessor, weights)
    own, _ = ImageProcessingMixin.get_image_processor_dict(weights)
    side = own.get("size", {"height": 1536})["height"]
    return SquarePictures(side, own.get("image_mean", (0.5,) * 3), own.get("image_std", (0.5,) * 3))


def _kept(width: int, height: int) -> tuple[int, int]:
    factor = min(1.0, LONGER_SIDE / max(width, height))
    return round(width * factor), round(height * factor)


def open_points(config: PointsConfig) -> TransformersDepth:
    """ValueError without weights."""
    if config.weights is None:
        raise ValueError("points: the transformers estimator needs weights (a folder or a hub name)")
    return TransformersDepth(config.weights)
