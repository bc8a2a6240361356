"""Encoder-decoders that a config selects by name."""

from collections.abc import Callable
from typing import Any

from models import EncoderDecoder, Luong, RNNsearch, Transformer
from training.registry import lookup

MODELS: dict[str, Callable[..., EncoderDecoder]] = {
    "transformer": Transformer,
    "rnnsearch": RNNsearch,
    "luong": Luong,
}
# Options that the configs of version 0.1.0 do not have.
DEFAULTS: dict[str, dict[str, Any]] = {
    "transformer": {"positions": "sinusoidal", "max_length": 0, "remat": "none"},
    "rnnsearch": {"initialization": "glorot"},
    "luong": {"initialization": "glorot"},
}


def select_model(
    architecture: str, model: Any
) -> tuple[Callable[..., EncoderDecoder], dict[str, Any]]:
    """Return the class selected by `config.architecture`, and the options of `config.model`.

    Raises:
        UserError: if the architecture or an option does not exist, or an option is missing.
    """
    options = DEFAULTS.get(architecture, {}) | dict(model)
    return lookup(
        MODELS,
        architecture,
        key="architecture",
        section="model",
        options={"vocabulary", "key", *options},
    ), options
