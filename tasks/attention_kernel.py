"""Availability of the attention kernel in `model.implementation` on this machine."""

import sys
from typing import Any

import jax

from training import cli
from training.errors import UserError

CUDNN_WIDTH = 256  # of a head; 128 before the Hopper generation


def check_kernel(model: Any) -> None:
    """Check that this machine has the attention kernel of a config's `model` section.

    Raises:
        UserError: if `implementation` is 'cudnn' without an NVIDIA GPU or a 16-bit `dtype`, or with
            widths of the heads that the kernel does not support.
    """
    if model.get("implementation") != "cudnn":
        return
    if jax.default_backend() != "gpu" or model["dtype"] not in ("bfloat16", "float16"):
        raise UserError(
            "model.implementation='cudnn' needs an NVIDIA GPU and model.dtype='bfloat16' or "
            "'float16': pass --config.model.implementation=xla, or such a dtype."
        )
    widths = {model["key_width"], model["value_width"]}
    if len(widths) > 1 or max(widths) > CUDNN_WIDTH or max(widths) % 8:
        raise UserError(
            "model.implementation='cudnn' needs model.key_width equal to model.value_width, a "
            f"multiple of 8, and at most {CUDNN_WIDTH}: pass --config.model.implementation=xla, or "
            "such widths."
        )


def replace_unavailable_kernel(config: Any) -> None:
    """Replace the fused attention of NVIDIA GPUs on other hardware; results differ by rounding."""
    implementation = dict(cli.config_items(config)).get("model.implementation")
    if implementation == "cudnn" and jax.default_backend() != "gpu":
        config.model.implementation = "xla"
        print("note: Without an NVIDIA GPU, model.implementation is 'xla'.", file=sys.stderr)
