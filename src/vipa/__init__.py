"""VIPA: spatial-aware vision-language-action pretraining from human videos (arXiv 2512.13080)."""

from vipa import moved

__version__ = "0.1.0"

moved.install()
