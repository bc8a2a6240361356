"""Rejected options of the encoders."""

import jax
import pytest

from models.seq2seq.encoders import make_encoder


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"kind": "rnn"}, "encoder must be one of gru, lstm"),
        ({"direction": "up"}, "direction must be one of forward, reverse, both"),
        ({"kind": "lstm", "width": 7}, "width of a bidirectional encoder must be even, not 7"),
        ({"kind": "self_attention", "width": 6}, "must be a multiple of 4, .* not 6"),
    ],
)
def test_invalid_options_are_rejected(changes, message, disable_type_checks):
    options = {"kind": "gru", "width": 8, "layers": 1, "direction": "both", "rate": 0.0}
    with pytest.raises(ValueError, match=message):
        make_encoder(6, **options | changes, key=jax.random.key(0))
