"""The stages of annotation: pure functions of (clip, configuration), each with its file per clip.

contacts -> words -> points -> scale -> objects -> relations ->
                              motion    -> the tables of the data set
                              frames    ->
"""

import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from vipa.clips.clip import Clip, ClipError, Text
from vipa.hand3d.config import AnnotateConfig
from vipa.hand3d.estimators.base import Estimators, content_at, sample_frames
from vipa.hand3d.estimators.endpoint import EndpointError
from vipa.hand3d.estimators.pointmaps import AnyMaps, PointMaps
from vipa.hand3d.measure.calibration import ScaleEstimate, estimate_scale
from vipa.hand3d.measure.contacts import contacts_from_geometry
from vipa.hand3d.measure.localise import locate_objects
from vipa.hand3d.measure.motion import find_motions, motion_seed, motion_task
from vipa.hand3d.measure.positions import LocatedObject, clip_names, from_poses
from vipa.hand3d.measure.relating import ClipGeometry, Found, find_relations, left_out
from vipa.hand3d.measure.relations import AnyRelation, CameraMovement, Relation
from vipa.hand3d.measure.visibility import Sight
from vipa.hand3d.measure.wrists import LocatedHand, locate_hands, wrist_path
from vipa.hand3d.words.describe import names_by_model, reworded, texts_by_model, texts_by_template
from vipa.hand3d.words.questions import answer_text, question_text
from vipa.io.hashing import content_of, digest
from vipa.io.store import ClipStore, StageOutput

STAGE_VERSIONS = {
    "contacts": 1, "words": 2, "points": 3, "scale": 4, "objects": 4, "relations": 5, "motion": 3, "frames": 1
}  # fmt: skip
"""Raised when a stage's results change, so that old files count as out of date."""


MAP_ERROR = 0.05
"""Relative error of a network's depth, beyond that of its unit, that hides nothing."""


class ClipStages:
    """The stages of one clip. What a run left under the same key is read, the rest computed and written."""

    def __init__(self, clip: Clip, config: AnnotateConfig, estimators: Estimators, store: ClipStore):
        self.source_clip, self.config, self.estimators, self.store = clip, config, estimators, store
        self.times = clip.timestamps - clip.timestamps[0]
        self.computed: dict[str, int] = {}

    # -- keys ---------------------------------------------------------------------------------------------------

    @cached_property
    def keys(self) -> dict[str, str]:
        """What each stage's file must have been made from. Networks count by their content, not by where it lies."""
        c, keys, e = self.config, {}, self.estimators
        points = (c.points.estimator, content_at(e.points, c.points.weights))
        boxes = asdict(replace(c.objects, detector="")) | {"network": content_at(e.boxes, c.objects.detector)}
        endpoint = None if e.endpoint is None else (c.endpoint.model, c.endpoint.longer_side)
        for stage, parts in {
            "contacts": (asdict(c.contacts),),
            "words": (asdict(c.words), c.objects.names, endpoint, "contacts"),
            "points": (points, c.objects.positions, c.objects.names, c.frames.rate, "words"),
            "scale": (asdict(c.scale), "points"),
            "objects": (boxes, asdict(c.hands), "scale"),
            "relations": (asdict(c.relations), "objects", "contacts", "words"),
            "motion": (asdict(c.motion), asdict(c.hands), "words"),
            "frames": (asdict(c.frames), "objects", "motion"),
        }.items():
            made_of = [keys.get(p, p) if isinstance(p, str) else p for p in parts]
            keys[stage] = digest(f"{stage} {STAGE_VERSIONS[stage]} {self.fingerprint} {made_of}")
        return keys

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that the clip holds, the files of its pictures and depth images included; but for its notes,
        which no stage reads."""
        return content_of(replace(self.source_clip, notes={}))

    def _stage(self, name: str, compute: Callable[[], StageOutput]) -> StageOutput:
        output = self.store.read(name, self.keys[name])
        if output is None:
            output = compute()
            self.computed[name] = len(self.frames)
            self.store.write(name, self.keys[name], output)
        return output

    # -- stages -------------------------------------------------------------------------------------------------

    @cached_property
    def frames(self) -> np.ndarray:
        """Indices of the sampled frames."""
        return sample_frames(self.source_clip, self.config.frames.rate)

    @cached_property
    def touched_clip(self) -> Clip:
        """The clip with its contacts, its own or those that the poses of its hands and objects tell."""
        clip = self.source_clip
        if clip.contacts is not None:
            return clip

        def compute() -> StageOutput:
            contacts = contacts_from_geometry(clip, self.config.contacts)
            if contacts is None:
                return StageOutput(None)
            return StageOutput(list(map(list, contacts)), {str(i): a for i, a in enumerate(contacts.values())})

        out = self._stage("contacts", compute)
        if out.values is None:
            return clip
        contacts = {(side, name): out.arrays[str(i)] for i, (side, name) in enumerate(out.values)}
        return replace(clip, contacts=contacts)

    @cached_property
    def described(self) -> dict[str, Any]:
        """names of objects, texts, and where the texts are from."""

        def compute() -> StageOutput:
            endpoint, clip = self.estimators.endpoint, self.touched_clip
            names, texts, origin = clip_names(clip), clip.texts, "clip"
            if self.config.objects.names == "endpoint" and not names:
                assert endpoint is not None
                names = names_by_model(endpoint, clip)
            if not texts and self.config.words.texts == "auto":
                texts, origin = texts_by_template(clip), "template"
            elif not texts and self.config.words.texts == "endpoint":
                assert endpoint is not None
                texts, origin = texts_by_model(endpoint, clip, self.config.words.chunk), endpoint.config.model
            return StageOutput({"names": names, "texts": [asdict(text) for text in texts], "origin": origin})

        return self._stage("words", compute).values

    @cached_property
    def clip(self) -> Clip:
        """The clip with its texts, its own or those that describe it."""
        return replace(self.touched_clip, texts=tuple(Text(**text) for text in self.described["texts"]))

    @cached_property
    def names(self) -> list[str]:
        """Of the objects to be located by the point map."""
        if self.config.objects.positions == "poses":
            return []
        known: set[str] = set()
        if self.config.objects.positions == "auto" and self.clip.T_world_camera is not None:
            known = {t.name for t in self.clip.objects or () if t.T_world_object is not None}
        return [name for name in self.described["names"] if name not in known]

    @property
    def needs_points(self) -> bool:
        """Whether anything is left that only a point map can tell."""
        return bool(self.names) or self.clip.T_world_camera is None

    @cached_property
    def maps(self) -> AnyMaps | None:
        """Point maps of the sampled frames, kept in a file where a network made them."""
        if not self.estimators.points.cached:
            return self._make_maps()

        def compute() -> StageOutput:
            maps = self._make_maps()
            if maps is None:
                return StageOutput(None)
            arrays = {"points": maps.points}
            arrays |= {} if maps.confidence is None else {"confidence": maps.confidence}
            arrays |= {} if maps.T_world_camera is None else {"T_world_camera": maps.T_world_camera}
            return StageOutput({k: getattr(maps, k) for k in ("metric", "unit_error", "edge")}, arrays)

        out = self._stage("points", compute)
        if out.values is None:
            return None
        a = out.arrays
        return PointMaps(
            self.frames, a["points"], a.get("confidence"), T_world_camera=a.get("T_world_camera"), **out.values
        )

    def _make_maps(self) -> AnyMaps | None:
        return self.estimators.points(self.clip, self.frames.tolist()) if self.needs_points else None

    @cached_property
    def scale(self) -> ScaleEstimate | None:
        """None where there is no point map."""

        def compute() -> StageOutput:
            maps = self.maps
            return StageOutput(
                None if maps is None else asdict(estimate_scale(self.clip, maps, self.config.scale))
            )

        values = self._stage("scale", compute).values
        return None if values is None else ScaleEstimate(**values)

    @cached_property
    def geometry(self) -> ClipGeometry:
        """Camera poses and objects at the sampled frames."""

        def compute() -> StageOutput:
            poses, sight = self._poses(), self._sight()
            located = self._locate(poses, sight)
            hands = locate_hands(self.clip, sight, self.config.hands)
            values = [
                {
                    "name": o.name,
                    "method": o.method,
                    "extent": None if o.extent is None else list(map(float, o.extent)),
                }
                for o in located
            ]
            arrays = {f"{i}_{k}": getattr(o, k) for i, o in enumerate(located) for k in _OBJECT_ARRAYS}
            arrays |= {f"{h.side}_{k}": getattr(h, k) for h in hands for k in _HAND_ARRAYS}
            return StageOutput(values, arrays | ({} if poses is None else {"poses": poses}))

        out = self._stage("objects", compute)
        objects = tuple(
            LocatedObject(
                name=v["name"],
                method=v["method"],
                extent=None if v["extent"] is None else np.array(v["extent"]),
                **{k: out.arrays[f"{i}_{k}"] for k in _OBJECT_ARRAYS},
            )
            for i, v in enumerate(out.values)
        )
        hands = tuple(
            LocatedHand(
                hand.side,
                path=wrist_path(self.clip, hand, self.config.hands),
                **{k: out.arrays[f"{hand.side}_{k}"] for k in _HAND_ARRAYS},
            )
            for hand in self.clip.hands
        )
        return ClipGeometry(self.frames, out.arrays.get("poses"), objects, hands)

    def _sight(self) -> Sight:
        """With the depth that the clip has in metres, or that of a calibrated map where one was needed anyway."""
        clip, maps, scale = self.clip, self.maps if self.needs_points else None, self.scale
        if maps is None or scale is None or (clip.depth is not None and clip.depth_is_metric):
            return Sight(clip, self.frames.tolist())
        width = 0.0 if scale.low is None or scale.high is None else scale.high - scale.low
        unsure = MAP_ERROR + width / 2 / scale.scale
        return Sight(clip, self.frames.tolist(), lambda i: maps.depth[i] * scale.scale, unsure)

    def _poses(self) -> np.ndarray | None:
        if self.clip.T_world_camera is not None:
            return self.clip.T_world_camera[self.frames]
        if self.config.points.estimator == "depth" or self.maps is None or self.maps.T_world_camera is None:
            return None
        poses = self.maps.T_world_camera.copy()
        assert self.scale is not None
        poses[:, :3, 3] *= self.scale.scale
        return poses

    def _locate(self, poses: np.ndarray | None, sight: Sight) -> tuple[LocatedObject, ...]:
        config, found = self.config.objects, []
        if config.positions != "points":
            found = from_poses(self.clip, sight, config.confidence)
        if self.names and self.maps is not None and self.scale is not None:
            boxes, scores = self.estimators.boxes(self.clip, self.frames.tolist(), self.names)
            found += locate_objects(
                self.clip, self.maps, self.scale, self.names, boxes, scores, poses, config.confidence
            )
        return tuple(found)

    @cached_property
    def relations(self) -> dict[str, Any]:
        """rows: of the table `visual`, all but split, version and configuration; counts: what was left out."""

        def compute() -> StageOutput:
            return StageOutput({"rows": [self._row(f) for f in self._find()], "counts": left_out(self.geometry)})

        return self._stage("relations", compute).values

    def _find(self) -> list[Found]:
        found = find_relations(self.clip, self.geometry, self.config.relations)
        if self.geometry.T_world_camera is None and not found:
            raise ClipError(self.clip.id, "nothing to ask: no camera poses, and no object with a position")
        if not found and not self.clip.hands:
            raise ClipError(
                self.clip.id, "nothing to ask: it has no hands; give a hand tracker's results (tracker, hands)"
            )
        return found

    def _row(self, found: Found) -> dict[str, Any]:
        r = found.relation
        what = [r.aspect] if isinstance(r, CameraMovement) else [r.hand, r.object]
        if isinstance(r, Relation) and r.task is not None:
            what.append(digest(r.task)[:6])
        frames = "-".join(str(f) for f in found.frames)
        row_id = f"{self.clip_id}/{r.category}/{frames}/{'/'.join(filter(None, what))}"
        displacement = r.translation if isinstance(r, CameraMovement) else r.displacement
        method = None
        if isinstance(r, Relation):
            method = next((o.method for o in self.geometry.objects if o.name == r.object), None)
        question, wording = self._question(r, row_id)
        return {
            "id": row_id,
            "category": r.category,
            "frame_ids": [frame_id(self.clip_id, f) for f in found.frames],
            "question": question,
            "answer": answer_text(r),
            "hand": None if isinstance(r, CameraMovement) else r.hand,
            "object": None if isinstance(r, CameraMovement) else r.object,
            "task": None if isinstance(r, CameraMovement) else r.task,
            "goal": None if isinstance(r, CameraMovement) else r.goal,
            "displacement": [float(x) for x in displacement],
            "distance": r.distance,
            "directions": list(r.directions),
            "contact": None if isinstance(r, CameraMovement) else r.contact,
            "rotation": [float(x) for x in r.rotation] if isinstance(r, CameraMovement) else None,
            "degrees": r.degrees if isinstance(r, CameraMovement) else None,
            "aspect": r.aspect if isinstance(r, CameraMovement) else None,
            "gamma": r.gamma,
            "hand_confidence": found.hand_confidence,
            "object_confidence": found.object_confidence,
            "scale": None if self.scale is None else self.scale.scale,
            "scale_spread": None if self.scale is None else self.scale.spread,
            "method": method,
            "wording": wording,
        }

    def _question(self, relation: AnyRelation, row_id: str) -> tuple[str, str]:
        """(question, what worded it): a template, or the endpoint where it keeps the meaning; see `VisualRecord`."""
        seed = int(digest(f"{self.config.relations.seed} {row_id}"), 16)
        endpoint = self.estimators.endpoint
        if endpoint is not None and seed % 10_000 < 10_000 * self.config.words.reworded:
            try:
                return reworded(endpoint, relation, seed), endpoint.config.model
            except EndpointError as error:
                return question_text(relation, seed), f"{KEPT}{error.reason}"
        return question_text(relation, seed), "template"

    @cached_property
    def motions(self) -> dict[str, Any]:
        """rows: of the table `action`, all but split, version and configuration; counts: what was left out."""
        return self._stage("motion", self._motions).values

    def _motions(self) -> StageOutput:
        config, rows = self.config.motion, []
        motions, counts = find_motions(self.clip, config, self.config.hands)
        for motion in motions:
            for task in config.tasks:
                worded = motion_task(motion, task, config.codec, motion_seed(self.clip, motion, task, config.seed))
                if worded is None:
                    continue
                rows.append(
                    {
                        "id": f"{self.clip_id}/{task}/{motion.frame}/{digest(motion.text)[:4]}",
                        "frame_id": frame_id(self.clip_id, motion.frame),
                        "task": task,
                        "prompt": worded[0],
                        "response": worded[1],
                        "text": motion.text,
                        "rate": motion.rate,
                        **{s: _rows(motion.future.get(s)) for s in ("left", "right")},
                        **{f"past_{s}": _rows(motion.past.get(s)) for s in ("left", "right")},
                        "outside": motion.outside,
                    }
                )
        return StageOutput({"rows": rows, "counts": counts})

    @cached_property
    def images(self) -> tuple[list[dict[str, Any]], list[bytes]]:
        """Rows of the table `frames` (all but split) and their encoded images: sampled and observation frames."""
        out = self._stage("frames", self._images)
        images, ends = out.arrays["images"].tobytes(), np.cumsum(out.arrays["sizes"])
        return out.values, [images[e - s : e] for s, e in zip(out.arrays["sizes"], ends)]

    def _images(self) -> StageOutput:
        clip, config = self.clip, self.config.frames
        observed = {int(row["frame_id"].rsplit("/", 1)[1]) for row in self.motions["rows"]}
        frames = sorted({int(f) for f in self.frames} | observed)
        sampled = {int(f): i for i, f in enumerate(self.frames)}
        rows, blobs, camera = [], [], clip.intrinsics
        width, height = config.size or (camera.width, camera.height)
        small = camera.resized(width, height)
        factor = np.array([width / camera.width, height / camera.height] * 2)
        for frame, pixels in _read(clip, frames):
            image = Image.fromarray(pixels)
            if image.size != (width, height):
                image = image.resize((width, height), Image.Resampling.BOX, reducing_gap=None)
            file = io.BytesIO()
            image.save(file, config.format, **({"quality": config.quality} if config.format == "jpeg" else {}))
            blobs.append(file.getvalue())
            poses = self.geometry.T_world_camera
            if clip.T_world_camera is not None:
                pose = clip.T_world_camera[frame]
            else:
                pose = None if poses is None or frame not in sampled else poses[sampled[frame]]
            things = [
                {
                    "name": o.name,
                    "centre": o.centres[i].tolist(),
                    "box": ((o.boxes[i] + 0.5) * factor - 0.5).tolist(),
                    "confidence": float(o.confidence[i]),
                }
                for o in self.geometry.objects
                if (i := sampled.get(frame)) is not None
            ]
            joints = {h.side: h.joints_camera[frame].ravel().tolist() for h in clip.hands}
            rows.append(
                {
                    "id": frame_id(self.clip_id, frame),
                    "index": frame,
                    "time": float(self.times[frame]),
                    "intrinsics": [small.fx, small.fy, small.cx, small.cy, width, height],
                    "T_world_camera": None if pose is None else pose.ravel().tolist(),
                    "left_joints": joints.get("left"),
                    "right_joints": joints.get("right"),
                    "objects": things,
                }
            )
        sizes = np.array([len(b) for b in blobs], dtype=np.int64)
        return StageOutput(rows, {"images": np.frombuffer(b"".join(blobs), np.uint8), "sizes": sizes})

    # -- all of it ----------------------------------------------------------------------------------------------

    @property
    def clip_id(self) -> str:
        """Unique over sources."""
        return f"{self.source_clip.source}/{self.source_clip.id}"

    def clip_row(self) -> dict[str, Any]:
        """Row of the table `clips`, all but split, version and configuration."""
        clip, scale = self.clip, self.scale
        return {
            "id": self.clip_id,
            "licence": clip.licence,
            "seconds": clip.seconds,
            "num_frames": len(clip),
            "rate": clip.rate,
            "intrinsics_origin": clip.intrinsics.origin,
            "texts": [asdict(text) for text in clip.texts],
            "object_names": [o.name for o in self.geometry.objects],
            "points": None if scale is None else self.config.points.estimator,
            "scale": None if scale is None else scale.scale,
            "scale_low": None if scale is None else scale.low,
            "scale_high": None if scale is None else scale.high,
            "scale_spread": None if scale is None else scale.spread,
            "scale_joints": None if scale is None else scale.joints,
            "scale_plain_median": None if scale is None else scale.plain_median,
            "notes": clip.notes | self._kept_templates(),
        }

    def _kept_templates(self) -> dict[str, str]:
        """A note of how many questions the endpoint was to reword and did not, and the commonest reason."""
        reasons = Counter(
            r["wording"].removeprefix(KEPT) for r in self.relations["rows"] if r["wording"].startswith(KEPT)
        )
        if not reasons:
            return {}
        reason = reasons.most_common(1)[0][0]
        return {"wording": f"{reasons.total()} questions kept their template, most often: {reason}"}


KEPT = "template; "
"""Begins the `wording` of a question that was to be reworded and kept its template; the reason follows."""

_OBJECT_ARRAYS = ("centres", "boxes", "confidence")
_HAND_ARRAYS = ("wrists", "confidence", "reasons")


def frame_id(clip_id: str, frame: int) -> str:
    return f"{clip_id}/{frame:06d}"


def _read(clip: Clip, frames: list[int], at_once: int = 16) -> Iterator[tuple[int, np.ndarray]]:
    """(frame, its image), a few decoded together: a video's key frames are then gone back to less often."""
    for start in range(0, len(frames), at_once):
        yield from zip(frames[start : start + at_once], clip.frames.read(frames[start : start + at_once]))


def _rows(path: np.ndarray | None) -> list[list[float]] | None:
    return None if path is None else path.tolist()
