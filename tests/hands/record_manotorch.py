"""Record what manotorch gives on our synthetic model, for `test_mano_oracle.py`.

    PYTHONPATH=src:PATH_TO_MANOTORCH_CHECKOUT python tests/hands/record_manotorch.py

manotorch (github.com/lixiny/manotorch) wants chumpy and MANO's own loader only to read the file; a stand-in for
that loader is put in place here. It must be importable; nothing of it is kept but the numbers.
"""

import json
import sys
import tempfile
import types
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from test_mano_oracle import MANOTORCH_CASES, MANOTORCH_RECORDED, manotorch_inputs

from vipa.hands.mano_synthetic import synthetic_mano, write_official_like_pkl
from vipa.io.safe_pickle import load_pickle


def load(path: str) -> dict:
    raw = load_pickle(path)
    for key in ("shapedirs", "posedirs", "v_template", "weights"):
        raw[key] = SimpleNamespace(r=raw[key])
    regressor = raw["J_regressor"]
    return {
        **raw,
        "J_regressor": SimpleNamespace(toarray=lambda: regressor),
        "betas": SimpleNamespace(r=np.zeros(10)),
    }


def main() -> None:
    torch.set_default_dtype(torch.float64)
    loader = types.ModuleType("mano.webuser.smpl_handpca_wrapper_HAND_only")
    vars(loader)["ready_arguments"] = load
    sys.modules |= {"mano": types.ModuleType("mano"), "mano.webuser": types.ModuleType("webuser")}
    sys.modules[loader.__name__] = loader
    from manotorch.manolayer import ManoLayer

    recorded = {}
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "models").mkdir()
        for side, form in MANOTORCH_CASES:
            write_official_like_pkl(synthetic_mano(3, side), Path(scratch) / "models" / f"MANO_{side.upper()}.pkl")
            layer = ManoLayer(
                rot_mode="quat" if form == "quaternion_wxyz" else "axisang", side=side, center_idx=0,
                mano_assets_root=scratch, use_pca=form == "pca", ncomps=45, flat_hand_mean=form != "pca",
            )  # fmt: skip
            orient, pose, betas = manotorch_inputs(form)
            out = layer(torch.cat([orient.flatten(1), pose.flatten(1)], 1), betas)
            recorded[f"{side} {form}"] = {
                "joints": out.joints.numpy().round(8).tolist(),
                "vertices": out.verts[:, ::37].numpy().round(8).tolist(),
            }
    MANOTORCH_RECORDED.write_text(json.dumps(recorded))


if __name__ == "__main__":
    main()
