"""Everything that decides what annotation makes of a clip: one complete, frozen, printable value.

Each stage reads its own section; a stage is out of date when its section, or that of a stage it builds on,
changed.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

from vipa.geometry.directions import GAMMA
from vipa.hand3d.measure.relations import CATEGORIES
from vipa.hands.motion_codec import MotionCodec
from vipa.io.hashing import digest


@dataclass(frozen=True)
class FramesConfig:
    """Which frames are asked about and how their images are stored.

    rate: frames per second of video. size: (width, height) in pixels of the stored image, None as filmed;
    intrinsics and boxes are carried along. format: png is exact.
    """

    rate: float = 1.0
    size: tuple[int, int] | None = None
    format: Literal["jpeg", "png"] = "jpeg"
    quality: int = 95


@dataclass(frozen=True)
class PointsConfig:
    """Where point maps come from. depth: the clip's own depth images (a sensor's, or truth), none where a clip has
    none; cut3r: the 3D encoder; transformers: any depth network (DepthPro, Depth Anything, ZoeDepth, DPT ...). weights:
    of the latter two, a folder or hub name."""

    estimator: str = "depth"
    weights: str | None = None


@dataclass(frozen=True)
class ScaleConfig:
    """Metres per unit of a point map (see `calibration`). A metric point map keeps its scale unless `force`.

    method: fit, ours; median, the paper's plain one (section 3.2.1), which has no interval and accepts any spread.
    spread: largest accepted robust spread of the per-frame scales, relative. frames, joints: least support. agree: of
    the map of a network whose configuration says so (`edge`), the share of joints that must agree on a scale; below it
    the upper edge of their ratios is taken.
    """

    force: bool = False
    method: Literal["fit", "median"] = "fit"
    spread: float = 0.10
    frames: int = 2
    joints: int = 12
    agree: float = 0.6


@dataclass(frozen=True)
class ObjectsConfig:
    """What objects there are and where. positions: "poses" of the data set, "points" inside a box of the
    calibrated point map, or "auto": poses where the data set has them, else points. names and boxes:
    estimators by name (see `objects`)."""

    positions: Literal["auto", "poses", "points"] = "auto"
    names: str = "clip"
    boxes: str = "clip"
    detector: str = "IDEA-Research/grounding-dino-tiny"  # weights of zero-shot
    threshold: float = 0.35  # least score of its boxes
    confidence: float = 0.3  # least confidence of an object's position: of a known pose, the share that is seen


@dataclass(frozen=True)
class HandsConfig:
    """Which hands are believed and seen, for relations and motions (see `wrists`).

    joints: of 21, inside the picture. confidence: least of the wrist: below 0.5 MediaPipe's metric hand misses its
    pixels by 15 % of its extent, or its side is hardly told; EgoDex's wrists have 0.88 and more. gap: longest time,
    in seconds, between two frames that know the wrist, over which it is interpolated. speed: metres per second that no
    wrist exceeds: EgoDex and HOT3D reach 1, VITRA's sample 2.5; there the tracker has lost the hand, and where it went
    is not known.
    """

    joints: int = 11
    confidence: float = 0.5
    gap: float = 0.25
    speed: float = 4.0


@dataclass(frozen=True)
class ContactsConfig:
    """When a hand counts as holding or pushing an object, for clips with poses and no contacts (see `contacts`).

    near, far: metres from a finger joint to the surface at which it may touch, and at which it surely does not; joints
    lie 8-15 mm inside the flesh, poses and meshes are millimetres off. moving: metres per second from which a hand
    moves; slip: how much of that it may move against the object while both move together; shortest: seconds of it.
    settled: metres within which fingers stay that hold. closing: seconds before and after a touch in which a hand that
    is near is on its way. smoothing: seconds, of speeds; jitter of tracked joints is gone, movements of 0.3 s are not.
    gap: seconds of unknown poses to bridge. joint_confidence: joints at or below it are unknown.
    """

    near: float = 0.025
    far: float = 0.035
    moving: float = 0.05
    slip: float = 0.35
    shortest: float = 0.1
    settled: float = 0.006
    closing: float = 1.0
    smoothing: float = 0.08
    gap: float = 0.2
    joint_confidence: float = 0.0


@dataclass(frozen=True)
class GoalsConfig:
    """Where a hand goes for a task (see `goals`). Metres, seconds, metres per second.

    A stop is a minimum of the wrist's speed, smoothed over `smoothing`, below `slow` and `ratio` times slower than what
    comes before and after; speeds below `jitter` count as rest. A rest that lasts until the hand is lost must be seen
    for `dwell`. gap: of unknown wrists, bridged. away: least distance from now. slack: how late texts may end.

    A stop nearer to where the text began than `home`, or than that share of the hand's reach, is taken for a return to
    rest; with `rest` in the place of `home` for a stop that lasts beyond the text, as recordings end. A stop within
    `homeward` radians of the straight way back may be a pause on it, and is no goal either. A hand that stays within
    `idle`, or within that share of what the other one does, is not meant by a text that names none.
    """

    smoothing: float = 0.08
    slow: float = 0.15
    ratio: float = 3.0
    jitter: float = 0.03
    dwell: float = 0.3
    gap: float = 0.3
    away: float = 0.05
    slack: float = 0.5
    home: float = 0.05
    rest: float = 0.10
    home_share: float = 0.5
    homeward: float = 0.5
    idle: float = 0.05
    idle_share: float = 0.25


@dataclass(frozen=True)
class RelationsConfig:
    """Which pairs of hand and object, and which movements, become relations.

    gamma: threshold of a direction word. window: most consecutive frames shown. goals: of tasks. Movements below the
    least ones (metres, radians) are trivial and left out.
    """

    gamma: float = GAMMA
    window: int = 4
    least_hand_movement: float = 0.03
    least_camera_movement: float = 0.02
    least_camera_rotation: float = 0.05
    goals: GoalsConfig = field(default_factory=GoalsConfig)
    seed: int = 0


@dataclass(frozen=True)
class MotionConfig:
    """Wrist trajectories after an observation image, in its camera.

    rate: waypoints per second. horizon, history, stride, chunk: seconds; stride is between observation images.
    Motions that stay within `least_movement` metres of their start, or leave the codec's volume in more than
    `most_outside` of their waypoints, are dropped. tasks: which of the three are made.
    """

    rate: float = 8.0
    horizon: float = 2.0
    history: float = 1.0
    stride: float = 1.0
    chunk: float = 10.0
    least_movement: float = 0.05
    most_outside: float = 0.25
    codec: MotionCodec = field(default_factory=MotionCodec)
    tasks: tuple[str, ...] = ("instructional_generation", "contextual_prediction", "motion_translation")
    seed: int = 0


@dataclass(frozen=True)
class EndpointConfig:
    """A vision-language model behind HTTP, for names, texts and wordings (see `endpoint`).

    url: the server's base, as in http://127.0.0.1:8000/v1; None: no server. key: name of the environment variable
    with the API key. timeout: seconds. retries: of one question, for any reason. wait, longest_wait: seconds before
    asking again after an unusable answer, doubled each time, with jitter; where the connection or the server fails
    the client waits (half a second, doubled up to 8 s; a Retry-After up to two minutes). requests: budget of one
    run, retries counted. rate: requests per minute, 0 for no limit. cache: folder of answers; None forgets them.
    longer_side: pixels of the images sent.
    """

    url: str | None = None
    model: str = ""
    key: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    retries: int = 5
    wait: float = 1.0
    longest_wait: float = 60.0
    requests: int = 100_000
    rate: float = 0.0
    cache: str | None = None
    longer_side: int = 512


@dataclass(frozen=True)
class WordsConfig:
    """texts: "auto" (the clip's own, else from contacts by template, else one without words for each action, see
    `segments`), "clip", or "endpoint" (where the clip has none). reworded: share of the questions that the endpoint
    says in other words. chunk: seconds of video the endpoint describes at once."""

    texts: Literal["auto", "clip", "endpoint"] = "auto"
    reworded: float = 0.0
    chunk: float = 10.0


@dataclass(frozen=True)
class MixConfig:
    """What of all records goes into the data set (see `mix`).

    shares: category or task -> share, None for all there is. most_alike: of one clip, how many records with
    the same hand, object and direction words. most_common: largest share of one direction within a category (1
    keeps all). validation, test: shares of the source videos whose split the data set leaves open.
    """

    visual_shares: dict[str, float] | None = None
    action_shares: dict[str, float] | None = None
    source_shares: dict[str, float] | None = None
    most_alike: int = 8
    most_common: float = 1.0
    validation: float = 0.0
    test: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class AnnotateConfig:
    """One run of annotation."""

    frames: FramesConfig = field(default_factory=FramesConfig)
    points: PointsConfig = field(default_factory=PointsConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    objects: ObjectsConfig = field(default_factory=ObjectsConfig)
    hands: HandsConfig = field(default_factory=HandsConfig)
    contacts: ContactsConfig = field(default_factory=ContactsConfig)
    relations: RelationsConfig = field(default_factory=RelationsConfig)
    motion: MotionConfig = field(default_factory=MotionConfig)
    words: WordsConfig = field(default_factory=WordsConfig)
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    mix: MixConfig = field(default_factory=MixConfig)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def hash(self) -> str:
        return digest(self.to_json())


PAPER_TABLE_1 = MixConfig(
    visual_shares=dict(zip(CATEGORIES, (0.249, 0.687, 0.062, 0.001))),
    source_shares={
        "arctic": 0.335, "oakink2": 0.153, "taco": 0.130, "h2o": 0.108, "hoi4d": 0.096,
        "egodex": 0.094, "fpha": 0.043, "tasterob": 0.024, "dexycb": 0.016,
    },
)  # fmt: skip
"""The mix of Hand3D-visual in the paper."""

PAPER_TABLE_2 = {
    "instructional_generation": 0.592,
    "contextual_prediction": 0.272,
    "motion_translation": 0.136,
}
"""The mix of the tasks of Hand3D-action in the paper."""
