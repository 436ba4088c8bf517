"""Modules that moved: importing one by its old name gives the module at its new place, and a warning of where it is."""

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

MOVED = {
    "benchmarks.annotation_quality": "benchmarks.annotation_benchmark",
    "benchmarks.charts": "benchmarks.report.charts",
    "benchmarks.clusters": "benchmarks.statistics",
    "benchmarks.comparisons": "benchmarks.report.comparisons",
    "benchmarks.cut3r": "benchmarks.cut3r_benchmark",
    "benchmarks.encoder3d": "benchmarks.cut3r_benchmark",
    "benchmarks.hand3d": "benchmarks.hand3d_benchmark",
    "benchmarks.hand3d_test": "benchmarks.hand3d_benchmark",
    "benchmarks.policies": "robots.policy",
    "benchmarks.stages": "nano.evaluation",
    "benchmarks.tabletop": "benchmarks.tabletop_benchmark",
    "benchmarks.trajectories": "benchmarks.trajectories_benchmark",
    "benchmarks.translations": "benchmarks.translations_benchmark",
    "clips.fixtures": "worlds.fixtures",
    "clips.lerobot_layout": "io.lerobot_layout",
    "clips.sources.tabletop": "worlds.source",
    "data.tokens": "data.images",
    "demo": "nano",
    "demo.nano": "nano.recipe",
    "demo.pictures": "nano.pictures",
    "demo.poster": "nano.poster",
    "demo.run": "nano.demo",
    "drawing": "clips.drawing",
    "geometry.transforms": "geometry.rigid",
    "hand3d.annotate": "hand3d.pipeline.annotate",
    "hand3d.calibration": "hand3d.measure.calibration",
    "hand3d.card": "hand3d.dataset.card",
    "hand3d.cloud": "hand3d.export.cloud",
    "hand3d.describe": "hand3d.words.describe",
    "hand3d.endpoint": "hand3d.estimators.endpoint",
    "hand3d.engine": "hand3d.pipeline.engine",
    "hand3d.example": "clips.example",
    "hand3d.exports": "hand3d.export.conversations",
    "hand3d.gallery": "hand3d.export.gallery",
    "hand3d.estimators.grounding_dino": "hand3d.estimators.grounding_dino_boxes",
    "hand3d.grounding_dino": "hand3d.estimators.grounding_dino_boxes",
    "hand3d.handmask": "hand3d.measure.handmask",
    "hand3d.lerobot_export": "hand3d.export.lerobot_v3",
    "hand3d.localise": "hand3d.measure.localise",
    "hand3d.mix": "hand3d.dataset.mix",
    "hand3d.motion": "hand3d.measure.motion",
    "hand3d.motion_tokens": "hands.motion_codec",
    "hand3d.objects": "hand3d.measure.positions",
    "hand3d.pointmaps": "hand3d.estimators.pointmaps",
    "hand3d.pointmaps_cut3r": "hand3d.estimators.cut3r_points",
    "hand3d.questions": "hand3d.words.questions",
    "hand3d.records": "hand3d.dataset.records",
    "hand3d.relating": "hand3d.measure.relating",
    "hand3d.relations": "hand3d.measure.relations",
    "hand3d.pipeline.stages": "hand3d.pipeline.table",
    "hand3d.stages": "hand3d.pipeline.table",
    "hand3d.stats": "hand3d.dataset.stats",
    "hand3d.store": "io.store",
    "hand3d.tables": "hand3d.dataset.tables",
    "hand3d.view": "hand3d.export.rerun_view",
    "hand3d.wordings": "hand3d.words",
    "hand3d.wordings.motion": "hand3d.words.motion_wordings",
    "hand3d.wordings.visual": "hand3d.words.visual_wordings",
    "hand3d.work": "hand3d.pipeline.work",
    "models.checks": "models.inputs",
    "models.cut3r.configuration": "models.cut3r.configuration_cut3r",
    "models.cut3r.geometry": "models.cut3r.readout",
    "models.cut3r.modelling": "models.cut3r.modeling_cut3r",
    "models.cut3r.processor": "models.cut3r.processing_cut3r",
    "models.identity": "models.loading",
    "progress": "io.progress",
    "robots.chunk_plot": "robots.predictions",
    "robots.lerobot": "robots.lerobot_data",
    "robots.loading": "robots.policy",
    "robots.tabletop": "robots.known.tabletop",
    "safe_pickle": "io.safe_pickle",
    "training.data": "data.mixture",
    "training.demonstrations": "data.demonstrations",
    "training.features": "data.images",
    "training.foundation": "nano.foundation",
    "training.foundation.chunks": "worlds.chunks",
    "training.foundation.conversations": "nano.foundation.questions_data",
    "training.foundation.correspondence": "nano.foundation.correspondence",
    "training.foundation.cut3r": "nano.foundation.spatial",
    "training.foundation.pictures": "nano.foundation.picture_set",
    "training.foundation.questions": "nano.foundation.picture_questions",
    "training.foundation.run": "nano.foundation.run",
    "training.foundation.sequences": "worlds.sequences",
    "training.foundation.start": "nano.foundation.start",
    "training.foundation.tokenizer": "nano.foundation.tokenizer",
    "training.foundation.vision": "nano.foundation.vision",
    "training.hand3d_turns": "data.hand3d_turns",
    "training.packing": "models.packing",
    "training.progress": "io.progress",
    "training.stages": "training.runs",
    "weights": "models.starts",
    "worlds.fixtures.files": "worlds.fixtures.writing",
}
"""Old name -> new name, both below `vipa`."""

NAMES = {
    "models": {"nano_processor": "nano.sizes", "nano_vipa_config": "nano.sizes", "nano_vlm_config": "nano.sizes"},
    "robots.episodes": {
        "open_episodes": "robots.lerobot_data:open_robot_data",
        "write_episode": "robots.lerobot_export",
    },
    "models.cut3r": {"nano_cut3r_config": "nano.sizes"},
    "models.starts": {
        "CONVENTIONS": "nano.shipped",
        "NANO": "nano.shipped",
        "NANO_STAGES": "nano.shipped",
        "load_nano": "nano.shipped",
        "overlay": "nano.shipped",
    },
}
"""Module -> names that it had, and the module that has them now, all below `vipa`; "module:name" where renamed."""


def old_name(module: str, name: str) -> Any:
    """What a module's `__getattr__` gives for a name that moved, with a warning. AttributeError for others."""
    new = NAMES.get(module.removeprefix("vipa."), {}).get(name)
    if new is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    place, _, renamed = new.partition(":")
    renamed = renamed or name
    warnings.warn(f"{module}.{name} is now vipa.{place}.{renamed}", DeprecationWarning, stacklevel=3)
    return getattr(importlib.import_module(f"vipa.{place}"), renamed)


class _Moved(MetaPathFinder, Loader):
    def find_spec(self, fullname, path=None, target=None):
        return ModuleSpec(fullname, self) if fullname.removeprefix("vipa.") in MOVED else None

    def exec_module(self, module):
        new = f"vipa.{MOVED[module.__name__.removeprefix('vipa.')]}"
        warnings.warn(f"{module.__name__} is now {new}", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(new)


def install() -> None:
    """Old names can be imported from now on."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Moved())
