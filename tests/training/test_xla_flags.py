"""XLA flags that runs set by default."""

import os
import subprocess
import sys

import pytest

from training import xla_flags
from training.xla_flags import GPU_FLAGS, merge_flags, set_xla_flags

DEFAULTS = {"xla_first": "false", "xla_second": "+A,+B"}


@pytest.mark.parametrize(
    "flags, expected",
    [
        ("", "--xla_first=false --xla_second=+A,+B"),
        ("--xla_first=true", "--xla_first=true --xla_second=+A,+B"),
        (" --xla_second  --other=1 ", "--xla_second --other=1 --xla_first=false"),
        (
            "--xla_first_of_all=1 --xla_second=",
            "--xla_first_of_all=1 --xla_second= --xla_first=false",
        ),
    ],
)
def test_flags_of_the_user_win(flags, expected):
    assert merge_flags(flags, DEFAULTS) == expected
    assert merge_flags(expected, DEFAULTS) == expected


@pytest.mark.parametrize("has_gpu, switch, is_set", [(1, None, 1), (1, "0", 0), (0, None, 0)])
def test_flags_are_set_on_machines_with_a_gpu(tmp_path, monkeypatch, has_gpu, switch, is_set):
    monkeypatch.setattr(xla_flags, "GPU_DEVICE_FILES", (str(tmp_path / "gpu"),) * has_gpu)
    (tmp_path / "gpu").touch()
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=")
    monkeypatch.delenv(xla_flags.SWITCH, raising=False)
    if switch:
        monkeypatch.setenv(xla_flags.SWITCH, switch)
    set_xla_flags()
    assert os.environ["XLA_FLAGS"].startswith("--xla_dump_to=")
    assert all((name in os.environ["XLA_FLAGS"]) == bool(is_set) for name in GPU_FLAGS)


@pytest.mark.slow
def test_installed_xla_knows_the_flags():
    """An unknown flag ends the process."""
    environment = os.environ | {"XLA_FLAGS": merge_flags("", GPU_FLAGS), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    subprocess.run(command, env=environment, check=True)
