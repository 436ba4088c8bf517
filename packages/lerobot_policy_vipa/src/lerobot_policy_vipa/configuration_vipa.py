"""`--policy.type=vipa`: what LeRobot's commands can say of a VIPA policy."""

from dataclasses import dataclass, field

from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.optim import AdamWConfig
from lerobot.optim.schedulers import CosineDecayWithWarmupSchedulerConfig


@PreTrainedConfig.register_subclass("vipa")
@dataclass
class LeRobotVipaConfig(PreTrainedConfig):
    """A VIPA policy. Its own normalisation and transforms are in its action contract, which is saved with it, so
    LeRobot's normalisers are identities.

    start: a VIPA checkpoint that training begins from: nano:stage2, nano:stage3 or a folder. robot: whose file reads
    the data set (`vipa robots list`, or a .py file); left out, the set's contract.json says what its numbers mean, and
    without one they are taken as plain numbers, normalised by the set's own statistics. horizon: actions in a chunk.
    n_action_steps: of which so many are played. euler_steps: of the flow. noise_draws: flow-matching draws per sample
    in training. max_delay: training-time real-time chunking (docs/serving.md). seed: of new weights and of the flow's
    noise. trained: parts of the model that learn; None: those of stage 3. The optimiser's defaults are nano's.
    """

    start: str = "nano:stage2"
    robot: str | None = None
    horizon: int = 8
    n_action_steps: int = 4
    euler_steps: int = 4
    noise_draws: int = 8
    max_delay: int = 0
    seed: int = 0
    trained: tuple[str, ...] | None = None
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: dict.fromkeys(("VISUAL", "STATE", "ACTION"), NormalizationMode.IDENTITY)
    )
    optimizer_lr: float = 5e-4
    optimizer_betas: tuple[float, float] = (0.9, 0.98)
    optimizer_eps: float = 1e-8
    optimizer_weight_decay: float = 1e-5
    optimizer_grad_clip_norm: float = 1.0
    scheduler_warmup_steps: int = 110
    scheduler_decay_steps: int = 2_200

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.n_action_steps <= self.horizon or not 0 <= self.max_delay < self.horizon:
            raise ValueError(
                f"policy: n_action_steps {self.n_action_steps} must be within 1 .. horizon {self.horizon}, and "
                f"max_delay {self.max_delay} below it"
            )

    @property
    def observation_delta_indices(self) -> None:
        return None

    @property
    def action_delta_indices(self) -> list[int]:
        return list(range(self.horizon))

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> AdamWConfig:
        return AdamWConfig(
            lr=self.optimizer_lr,
            betas=self.optimizer_betas,
            eps=self.optimizer_eps,
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=self.optimizer_grad_clip_norm,
        )

    def get_scheduler_preset(self) -> CosineDecayWithWarmupSchedulerConfig:
        return CosineDecayWithWarmupSchedulerConfig(
            num_warmup_steps=self.scheduler_warmup_steps,
            num_decay_steps=self.scheduler_decay_steps,
            peak_lr=self.optimizer_lr,
            decay_lr=0.0,
        )

    def validate_features(self) -> None:
        if not self.image_features or self.robot_state_feature is None or self.action_feature is None:
            raise ValueError("policy vipa: it needs at least one camera, observation.state and action")
