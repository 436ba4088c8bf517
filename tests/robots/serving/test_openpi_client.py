"""A policy of a real 44-joint robot, trained through a template of its data set, asked by openpi-client unchanged.

openpi-client wants numpy before 2, so it lives in an environment of its own:
python -m venv openpi && openpi/bin/pip install openpi-client==0.1.2 typing_extensions
VIPA_OPENPI_PYTHON=openpi/bin/python pytest -m slow tests/robots/serving/test_openpi_client.py
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vipa.cli import main
from vipa.robots.known import find
from vipa.robots.policy import VipaPolicy
from vipa.robots.predictions import look_at

REAL = Path(__file__).resolve().parents[3].parent / "shared" / "real" / "gr00t_robot_sim_PickNPlace"
CLIENT = os.environ.get("VIPA_OPENPI_PYTHON")
KEYS = {"ego_view": "observation/image", "state": "joints"}
ASK = """
import sys
import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy

port, folder = int(sys.argv[1]), sys.argv[2]
client = WebsocketClientPolicy("127.0.0.1", port)
told = client.get_server_metadata()
print(sorted(told["observation"]), told["action_contract"]["robot"])
asked = np.load(folder + "/asked.npz")
for row in range(len(asked["state"])):
    message = {"observation/image": asked["image"][row], "joints": asked["state"][row], "prompt": str(asked["text"]),
               "noise_key": [0, int(asked["rows"][row])]}
    np.save(f"{folder}/answer_{row}.npy", client.infer(message)["actions"])
"""


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="the real data set is not here")
@pytest.mark.skipif(CLIENT is None, reason="VIPA_OPENPI_PYTHON names no Python with openpi-client")
def test_a_real_robot_s_policy_answers_openpi_client_under_its_own_keys(tmp_path):
    file, model = tmp_path / "gr1.py", tmp_path / "run" / "model"
    main(["robots", "template", str(REAL), "--out", str(file), "--horizon", "8"])
    text = file.read_text()
    file.write_text(text.replace("        # transforms=", f"        keys={KEYS!r},\n        # transforms="))
    short = [
        "--steps",
        "2",
        "--data.0.batch",
        "2",
        "--data.0.noise-draws",
        "1",
        "--images",
        "pixels",
        "--threads",
        "1",
    ]
    main(["train", "stage3", "--data", str(REAL), "--robot", str(file), "--out", str(model.parent), *short])
    episode, policy = find(str(file)).read(REAL)[4], VipaPolicy.from_pretrained(model, device="cpu")
    looks = [look_at(episode, row) for row in (0, 40)]
    np.savez(
        tmp_path / "asked.npz",
        image=[look.images["ego_view"] for look in looks],
        state=[look.state for look in looks],
        text=episode.text,
        rows=[0, 40],
    )
    command = [sys.executable, "-m", "vipa", "serve", str(model), "--port", "0", "--max-batch", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        line = next(line for line in server.stdout if "serving" in line)
        port = line.partition("ws://127.0.0.1:")[2].partition(";")[0]
        asked = subprocess.run(
            [CLIENT, "-c", ASK, port, str(tmp_path)], capture_output=True, text=True, timeout=300
        )
        server.terminate()
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.strip() == "['joints', 'observation/image', 'prompt'] GR1ArmsOnly"
    for number, look in enumerate(looks):
        answer = np.load(tmp_path / f"answer_{number}.npy")
        assert answer.shape == (8, 44)
        np.testing.assert_allclose(answer, policy.infer(look), rtol=0, atol=1e-5)
