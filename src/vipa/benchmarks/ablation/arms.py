"""The arms as data: what each leaves out or changes, and how long everything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vipa.benchmarks.asking import Spatial
from vipa.benchmarks.labels import TRUTH

Benchmark = Literal["questions", "motions", "tabletop"]


@dataclass(frozen=True)
class Arm:
    """One way to a policy; everything it does not name is as in the arm `full`.

    what: in words. pretraining: stages 1 and 2; without them stage 3 begins with the start, and the fusion learns in
    it. fusion: fields of FusionConfig. stage1: the parts that learn in stage 1 (None: the preset's). spatial: 3D tokens
    at evaluation. augment: strength of changes of the pictures in stage 3, which then also has the steps of the stages
    that are left out. labels: what positions of objects in stages 1 and 2 are made from (`benchmarks.labels`); every
    arm is asked about the true ones. published: what the paper reports for it (LIBERO, single view, average success in
    percent).
    """

    name: str
    what: str
    pretraining: bool = True
    fusion: Mapping[str, str] = field(default_factory=dict)
    stage1: tuple[str, ...] | None = None
    spatial: Spatial = "real"
    augment: float = 0.0
    labels: str = TRUTH
    published: float | None = None

    @property
    def encoder(self) -> bool:
        """Whether the model reads 3D tokens at all."""
        return self.fusion.get("kind") != "none" and self.fusion.get("source") != "semantic"


_ALL = (
    Arm("full", "pretraining and 3D encoder", published=92.4),
    Arm("no-pretraining", "stage 3 alone", pretraining=False, published=91.2),
    Arm("no-encoder", "no 3D encoder, no fusion", fusion={"kind": "none"}, published=90.4),
    Arm("neither", "stage 3 alone, no 3D encoder", pretraining=False, fusion={"kind": "none"}, published=88.7),
    Arm("gated", "the fusion has a gate", fusion={"kind": "gated"}),
    Arm("semantic", "the fusion reads the image encoder's own tokens", fusion={"source": "semantic"}),
    Arm("zeroed", "full; 3D tokens are zeros at evaluation", spatial="zeroed"),
    Arm("shuffled", "full; 3D tokens of another clip at evaluation", spatial="shuffled"),
    Arm("augmented", "stage 3 alone, for all steps, on changed pictures", pretraining=False, augment=1.0),
    Arm("stage1-fusion", "in stage 1 the fusion learns alone", stage1=("fusion",)),
    Arm("stage1-both", "in stage 1 fusion and language model learn", stage1=("fusion", "language")),
    Arm("depth-labels", "positions of objects by true depth in their boxes", labels="depth"),
    Arm("sensor-labels", "positions by a sensor's depth of unknown unit, our scale", labels="sensor"),
    Arm("cut3r-labels", "positions by the 3D encoder's depth, our scale", labels="cut3r"),
    Arm("median-labels", "positions by the 3D encoder's depth, the paper's plain median", labels="cut3r-median"),
)
ARMS: dict[str, Arm] = {arm.name: arm for arm in _ALL}
MAIN = ("full", "no-pretraining", "no-encoder", "neither")
"""Of the paper's ablation."""


def find_arm(name: str) -> Arm:
    """ValueError for an unknown one."""
    if name not in ARMS:
        raise ValueError(f"arm {name!r} is unknown; known: {', '.join(ARMS)}")
    return ARMS[name]


@dataclass(frozen=True)
class Budget:
    """How much everything is: clips and held-out clips that are filmed and annotated, demonstrations, steps of the
    stages, and what is asked: questions, motions (None: all) and episodes a task. batch_factor: batches are so many
    times the preset's, learning rates its root; on a GPU a larger step of nano takes no longer. validate_every: steps
    between looks at held-out losses in stages 1 and 2, for learning curves (0: none); what is learned does not change
    by it. temperature: of stage 1's questions by category (`DataSpec.temperature`; 1: as the data has them)."""

    clips: int
    held: int
    demonstrations: int
    stage1_steps: int
    stage2_steps: int
    stage3_steps: int
    questions: int | None
    motions: int | None
    episodes: int
    tasks: tuple[str, ...] = ("touch", "push", "lift", "place")
    save_every: int = 100
    compile: bool = False
    batch_factor: int = 1
    validate_every: int = 0
    temperature: float = 1.0


BUDGETS: dict[str, Budget] = {
    "tiny": Budget(4, 3, 3, 4, 4, 4, 12, 6, 2, tasks=("touch",), save_every=2),
    "small": Budget(120, 50, 160, 200, 200, 320, 300, 100, 12),
    "full": Budget(800, 150, 1_000, 1_200, 1_400, 2_200, 1_000, None, 50, compile=True),
    "gpu": Budget(2_000, 150, 2_000, 1_000, 1_200, 2_400, 1_000, None, 50, batch_factor=2),
}
