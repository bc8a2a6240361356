"""Verification of published weights: tolerances, and a changed weight."""

import json
import math
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from results import verify
from training import weights
from training.errors import UserError


def differs(reported, found, same_kind):
    return bool(list(verify.compare({"test/m": reported}, {"test/m": found}, same_kind)))


@pytest.mark.parametrize(
    ("reported", "found", "same_kind", "expected"),
    [
        (0.12341, 0.12344, True, False),
        (0.1234, 0.1235, True, True),
        (0.1234, 0.1235, False, False),
        (40.0, 40.3, False, False),
        (40.0, 40.5, False, True),
        (0.5, math.nan, False, True),
    ],
)
def test_metrics_agree_to_four_digits_or_the_tolerance(reported, found, same_kind, expected):
    assert differs(reported, found, same_kind) == expected


def test_metric_that_is_no_longer_computed_differs():
    reported = {"test/a": 1.0, "test/b": 1.0, "dev/a": 1.0}
    (difference,) = verify.compare(reported, {"test/a": 1.0, "test/new": 2.0}, same_kind=True)
    assert difference.name == "test/b"


@pytest.mark.parametrize(
    ("device", "kind"),
    [
        ("AMD EPYC, 2 cores", "AMD EPYC"),
        ("AMD EPYC, 1 core", "AMD EPYC"),
        ("8 x TPU v5e", "TPU v5e"),
    ],
)
def test_device_kind_has_no_number(device, kind):
    assert verify.device_kind(device) == kind


@pytest.mark.parametrize("path", verify.published(), ids=lambda path: path.name)
def test_published_files_are_complete_and_small(path):
    assert (path / weights.FILE).stat().st_size <= 5e6
    assert json.loads((path / "summary.json").read_text())["metrics"]
    assert json.loads((path / "config.json").read_text())["task"]
    assert all(np.isfinite(x).all() for x in load_file(path / weights.FILE).values())


@pytest.mark.slow
def test_changed_weight_is_detected(tmp_path, monkeypatch):
    directory = shutil.copytree(verify.RESULTS / "snail_bandits", tmp_path / "snail_bandits")
    monkeypatch.setattr(verify, "RESULTS", tmp_path)
    verify.main([])
    file = directory / weights.FILE
    content = weights.read_weights(file)
    content.arrays["heads.bias"][0] += 1.0  # logit of the first arm
    save_file(content.arrays, file, {"step": str(content.step)})
    with pytest.raises(UserError, match="The weights of snail_bandits do not have the reported"):
        verify.main([])
