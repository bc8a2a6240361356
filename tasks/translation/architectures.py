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


def select_model(
    architecture: str, model: Any
) -> tuple[Callable[..., EncoderDecoder], dict[str, Any]]:
    """Return the class selected by `config.architecture`, and the options of `config.model`.

    Raises:
        UserError: if the architecture or an option does not exist, or an option is missing.
    """
    options = dict(model)
    return lookup(
        MODELS,
        architecture,
        key="architecture",
        section="model",
        options={"vocabulary", "key", *options},
    ), options
