"""The Transformer trains on eight devices as on one, however they are laid out."""

import numpy as np
import pytest

from tests import commands
from training import metrics

LAYOUTS = [(2, 2, 2), *(pytest.param(*x, marks=pytest.mark.slow) for x in [(8, 1, 1), (1, 1, 8)])]


@pytest.mark.parametrize("data, fsdp, tensor", LAYOUTS)
def test_eight_devices_give_the_losses_of_one(smoke_run, tmp_path, monkeypatch, data, fsdp, tensor):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    layout = [f"--config.mesh.data={data}", f"--config.mesh.fsdp={fsdp}"]
    layout.append(f"--config.mesh.tensor={tensor}")
    done = commands.apart("train.py", commands.NUMBERS, f"--workdir={tmp_path}", *layout)
    assert done.code == 0, done.errors
    ours, theirs = (
        [line["loss"] for line in metrics.read(workdir) if "loss" in line]
        for workdir in (str(tmp_path), str(smoke_run))
    )
    assert len(ours) == 4
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
