"""Action contracts: JSON round trip, and mismatches that are named."""

from dataclasses import replace

import numpy as np
import pytest

from vipa.robots.contract import ActionContract, Statistics
from vipa.robots.known.tabletop import tabletop_contract


def with_statistics(rng) -> ActionContract:
    action, state = Statistics.of(rng.normal(size=(50, 7)), "x"), Statistics.of(rng.normal(size=(50, 8)), "x")
    return tabletop_contract().normalised("quantiles", action, state)


def test_json_round_trip_keeps_every_field(rng):
    contract = with_statistics(rng)
    assert ActionContract.from_json(contract.to_json()) == contract


def test_a_contract_agrees_with_itself_whatever_the_normalisation_and_horizon(rng):
    with_statistics(rng).check(tabletop_contract(horizon=16))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate": 20.0}, "rate: 20.0 against 10.0"),
        ({"gripper": "+1 open, -1 closed"}, "gripper"),
        ({"rotation": "euler_xyz"}, "rotation"),
        ({"frame": "camera"}, "frame"),
        ({"views": ("wrist",)}, "views"),
    ],
)
def test_a_mismatch_is_an_error_that_names_it(change, words):
    with pytest.raises(ValueError, match=words):
        replace(tabletop_contract(), **change).check(tabletop_contract())


def test_all_mismatches_are_listed_at_once():
    contract = tabletop_contract()
    other = replace(contract.action[0], unit="radian", mode="absolute")
    changed = replace(contract, rate=20.0, action=(other, *contract.action[1:]))
    assert len(changed.mismatches(contract)) == 3


def test_normalisation_without_statistics_is_refused():
    with pytest.raises(ValueError, match="needs action statistics"):
        replace(tabletop_contract(), normalisation="mean_std")


def test_statistics_of_another_width_are_refused(rng):
    wrong = Statistics.of(rng.normal(size=(9, 3)), "x")
    with pytest.raises(ValueError, match="7 dimensions, its statistics 3"):
        tabletop_contract().normalised("mean_std", wrong, wrong)


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "not JSON"), ('{"version": 99}', "version 1"), ('{"version": 1, "robot": "x"}', "missing or unknown")],
)
def test_a_broken_contract_file_is_a_clear_error(text, words):
    with pytest.raises(ValueError, match=f"file.json.*{words}"):
        ActionContract.from_json(text, "file.json")


def test_statistics_refuse_values_that_are_not_finite():
    with pytest.raises(ValueError, match="column 1"):
        Statistics.of(np.array([[0.0, np.nan]]), "x")
