import json
import subprocess
from pathlib import Path

import pytest

from vipa import __version__
from vipa.io.provenance import commit, provenance, provenance_words


def test_a_result_knows_where_and_with_what_it_was_made():
    made = json.loads(json.dumps(provenance()))
    assert made["versions"]["vipa"] == __version__
    assert made["machine"]["processor"]
    assert made["machine"]["cores"] >= 1
    assert "+00:00" in made["date"]
    assert made["machine"]["processor"] in provenance_words()


def test_the_commit_is_that_of_the_checkout():
    root = Path(__file__).parents[2]
    done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a checkout")
    found = commit()
    assert found is not None
    assert done.stdout.startswith(found.rstrip("+"))
