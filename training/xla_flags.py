"""XLA flags that every run sets, by platform.

A flag that `XLA_FLAGS` already contains keeps its value. `ATTENTION_ATLAS_XLA_FLAGS=0` sets none.
The figures without a device are from benchmarks/README.md, on an NVIDIA H200.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

SWITCH = "ATTENTION_ATLAS_XLA_FLAGS"
GPU_FLAGS = {
    # Matrix products by cuBLAS only. Otherwise the autotuner compiles Triton kernels: on an H100
    # with two CPU cores, SNAIL and the pointer networks had not started after 70 s. Autotuning of
    # cuBLAS stays on, because an update of SNAIL takes 0.7 of the time with it.
    "xla_gpu_enable_triton_gemm": "false",
    # Loops become CUDA graphs, so that the host does not launch every kernel of every iteration: a
    # training step takes 0.6 of the time for a pointer network, 0.87 to 0.94 for RNNsearch, and the
    # same time for SNAIL. Measured without autotuning.
    "xla_gpu_enable_command_buffer": "+WHILE,+CONDITIONAL",
}
GPU_DEVICE_FILES = ("/dev/nvidiactl", "/dev/dxg")  # of Linux, and of its subsystem on Windows


def set_xla_flags() -> None:
    """Add the flags of this machine to `XLA_FLAGS`. Must precede any other use of JAX."""
    if has_nvidia_gpu() and os.environ.get(SWITCH) != "0":
        os.environ["XLA_FLAGS"] = merge_flags(os.environ.get("XLA_FLAGS", ""), GPU_FLAGS)


def has_nvidia_gpu() -> bool:
    """Return whether this machine has an NVIDIA GPU, without starting a JAX backend."""
    return any(Path(path).exists() for path in GPU_DEVICE_FILES)


def merge_flags(flags: str, defaults: Mapping[str, str]) -> str:
    """Append the defaults of the flags that a value of `XLA_FLAGS` does not set."""
    present = set(re.findall(r"--(\w+)", flags))
    missing = [f"--{name}={value}" for name, value in defaults.items() if name not in present]
    return " ".join([*flags.split(), *missing])
