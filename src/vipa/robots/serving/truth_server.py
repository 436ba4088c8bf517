"""vla-eval's protocol for policies that see the simulation's truth beside what a robot sees."""

from typing import Any

import numpy as np

from vipa.robots.libero_expert import Scene, TrueObservation
from vipa.robots.serving.vla_eval_server import PolicyModelServer


class TruthModelServer(PolicyModelServer):
    """Observations with `scene`, as `benchmarks/simulator_side/libero_worlds.py` sends them."""

    def read(self, obs: dict[str, Any], key: tuple[int, int]) -> TrueObservation:
        seen, sent = super().read(obs, key), obs.get("scene")
        scene = None
        if sent:
            target, goal, boxes = (
                np.asarray(sent[name], dtype=np.float64) for name in ("target", "goal", "boxes")
            )
            scene = Scene(target, bool(sent["held"]), goal, boxes)
        return TrueObservation(seen.images, seen.state, seen.text, seen.key, scene)
