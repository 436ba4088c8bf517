import pytest


@pytest.fixture(scope="session")
def hand3d_path(tmp_path_factory):
    """A Hand3D data set of four filmed clips of the training split."""
    from dataclasses import replace

    from vipa.hand3d.pipeline.annotate import annotate
    from vipa.worlds.film import film_clip
    from vipa.worlds.seeds import TRAIN

    path = tmp_path_factory.mktemp("hand3d")
    annotate((replace(film_clip(TRAIN[i]), split="train") for i in range(4)), path)
    return path
