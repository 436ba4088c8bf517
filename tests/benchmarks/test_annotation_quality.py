import numpy as np

from vipa.benchmarks.annotation_benchmark import measure, report
from vipa.benchmarks.labels import labels_of
from vipa.worlds.seeds import seeds_of


def test_true_poses_give_the_truth_and_boxes_with_depth_come_close():
    kinds = labels_of("none")
    chosen = [kinds[name] for name in ("truth", "depth", "sensor")]
    truth, boxes, sensor = measure(chosen, seeds_of("validation")[:2], 112)
    assert truth.words.all() and np.abs(truth.distances).max() < 1e-9
    assert min(len(truth.words), len(boxes.words)) > 20
    for quality in (boxes, sensor):
        assert quality.refused == ()
        assert np.median(quality.centres) < 0.01
        assert quality.words.mean() > 0.9
    assert np.abs(sensor.scale).max() < 0.03
    page = report([truth, boxes, sensor], "Protocol.")
    assert "| all direction words right | 100.0%" in page
