"""What decays."""

from torch import nn

from vipa.models.starts import load_start
from vipa.training.optimiser import weight_decay_groups
from vipa.training.parts import freeze_all_but


def test_only_matrices_of_linear_layers_decay(start):
    model, _ = load_start(start)
    freeze_all_but(model, tuple(model.parts()))
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, kept = ([names[id(p)] for p in g["params"]] for g in weight_decay_groups(model, 0.1))
    assert sorted(decayed + kept) == sorted(names.values()), "every parameter is in one group"
    assert all(name.endswith(".weight") for name in decayed)
    assert not [name for name in decayed if "norm" in name.split(".")[-2] or "embed_tokens" in name]
    for left_out in (
        "model.action_queries.weight",
        "model.language_model.embed_tokens.weight",  # tied to the output layer
        "model.fusion.alpha",
        "action_head.positions",
        "action_head.state_encoder.0.bias",
        "action_head.norm_condition.weight",
    ):
        assert left_out in kept
    for matrix in (
        "action_head.state_encoder.0.weight",
        "action_head.layers.0.query.weight",
        "model.fusion.branch.query.weight",
        "model.language_model.layers.0.self_attn.q_proj.weight",
        "model.multi_modal_projector.linear_1.weight",
    ):
        assert matrix in decayed


def test_an_untied_output_layer_is_a_matrix_and_convolutions_decay():
    model = nn.ModuleDict({"words": nn.Embedding(4, 3), "out": nn.Linear(3, 4), "patch": nn.Conv2d(3, 8, 2)})
    decayed, kept = (g["params"] for g in weight_decay_groups(model, 0.1))
    assert [p.shape for p in decayed] == [(4, 3), (8, 3, 2, 2)]
    model["out"].weight = model["words"].weight
    assert [p.shape for p in weight_decay_groups(model, 0.1)[0]["params"]] == [(8, 3, 2, 2)]
    assert len(kept) == 3
