"""Trainings, an evaluation and a policy on a pretended accelerator: nothing mixes devices, seeds draw the same."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from pretend_cuda import PretendCuda
from vipa.benchmarks.answering import ModelAnswerer, Motions, Questions
from vipa.benchmarks.trajectories_benchmark import has_motion
from vipa.data.spec import DataSpec
from vipa.hand3d.dataset.reader import Hand3D
from vipa.robots.known.tabletop import collect
from vipa.robots.policy import Observation, VipaPolicy
from vipa.training.loop import train
from vipa.training.meters import MATRIX
from vipa.training.runs import STAGE2_PARTS, STAGE3_PARTS
from vipa.worlds.seeds import TRAIN


@pytest.fixture(autouse=True)
def rate_of_a_cpu(monkeypatch):
    """The card's rate is measured at first, and what a GPU multiplies in milliseconds takes this one minutes."""
    monkeypatch.setitem(MATRIX, "cuda", MATRIX["cpu"])


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demonstrations")
    collect(folder, TRAIN[:1], {"touch": 1.0})
    return folder


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_pretended_card_notices_what_a_real_one_would():
    weight = torch.nn.Linear(3, 2)
    with PretendCuda():
        x = torch.ones(4, 3, device="cuda")
        weight.to("cuda")
        assert (x.device.type, weight(x).device.type, x.cpu().device.type) == ("cuda", "cuda", "cpu")
        assert (2 * torch.tensor(3.0) * x).device.type == "cuda"  # a number may stay on the host
        assert x[torch.tensor([0, 2])].device.type == "cuda"  # and so may an index
        for mixed in (
            lambda: x + torch.ones(3),
            lambda: weight(torch.ones(4, 3)),
            lambda: torch.cat([x, torch.ones(1, 3)]),
            lambda: x.masked_fill(torch.zeros(4, 3, dtype=torch.bool), 0),
            lambda: torch.randn(3, generator=torch.Generator(), device="cuda"),
            lambda: (weight(x) * torch.ones(4, 2)).sum().backward(),
        ):
            with pytest.raises(RuntimeError, match="device"):
                mixed()
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()
        weight(x).sum().backward()
        assert weight.weight.grad.device.type == "cuda"


@pytest.mark.parametrize("kind", ["hand3d_action", "episodes"])
def test_a_stage_trains_on_the_device_as_on_the_cpu(run, hand3d_path, demonstrations, tmp_path, kind):
    if kind == "episodes":
        pytest.importorskip("vipa.models.noise", reason="a CPU generator draws for tensors of any device there")
    path = demonstrations if kind == "episodes" else hand3d_path
    parts = STAGE3_PARTS if kind == "episodes" else STAGE2_PARTS
    spec = DataSpec(kind, path, batch=2, turns=2)
    run = replace(
        run,
        data=(spec,),
        trained=parts,
        steps=2,
        save_every=1,
        precision="fp32",
        start="nano:stage2",
        device="cpu",
    )
    train(run)
    there = replace(run, out=tmp_path / "there", device="cuda")
    with PretendCuda():
        model = train(there).model
    assert losses(there.out) == pytest.approx(losses(run.out), rel=1e-4)
    with PretendCuda():
        if kind == "episodes":
            policy = VipaPolicy.from_pretrained(model, device="cuda")
            seen = {view: np.zeros((112, 112, 3), np.uint8) for view in policy.contract.views}
            assert policy([Observation(seen, np.zeros(8), "touch the cup")]).shape == (1, 8, 7)
        else:
            answerer = ModelAnswerer(model, hand3d_path, device="cuda")
            data = Hand3D(hand3d_path)
            assert len(Questions(answerer)(list(data.visual("train"))[:2])) == 2
            assert len(Motions(answerer)([r for r in data.action("train") if has_motion(r)][:2])) == 2
