"""Lets the tests of this folder import its helper module (pytest runs in importlib mode); shared fixtures."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="package")
def nano():
    from vipa.robots.policy import VipaPolicy

    return VipaPolicy.from_pretrained("nano:stage3", device="cpu")
