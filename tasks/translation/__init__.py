"""Sequence-to-sequence tasks on text: machine translation and grapheme-to-phoneme conversion."""

from typing import Any

from tasks.translation.task import Translation, build, build_abstract

__all__ = ["Translation", "build", "build_abstract", "complete_config"]

# Options that runs of version 0.1.0 did not have, by architecture and by kind of vocabulary.
MODEL_OPTIONS: dict[str, dict[str, Any]] = {
    "transformer": {"positions": "sinusoidal", "max_length": 0, "remat": "none"},
    "rnnsearch": {"initialization": "glorot"},
    "luong": {"initialization": "glorot"},
}
VOCABULARY_OPTIONS: dict[str, dict[str, Any]] = {"bpe": {"normalization": "none", "sample": 0}}


def complete_config(config: dict[str, Any]) -> dict[str, Any]:
    """Add the options of models, vocabularies and training that runs of 0.1.0 did not have."""
    kind = config["vocabulary"]["kind"]
    sections = {
        "model": MODEL_OPTIONS.get(config["architecture"], {}) | config["model"],
        "vocabulary": VOCABULARY_OPTIONS.get(kind, {}) | config["vocabulary"],
    }
    return {"max_training_length": 0} | config | sections
