"""RNNsearch and Luong against NumPy loops over the equations, and the size of the paper's model."""

import jax
import numpy as np
import pytest
from flax import nnx

from models import RNNsearch
from tests.models.seq2seq import reference, tiny
from tests.models.seq2seq.reference import value
from tests.models.seq2seq.tiny import ATTENTION, HIDDEN
from tests.models.tiny import SOURCE, TARGET


@pytest.mark.parametrize(
    "name, score, equations",
    [
        ("rnnsearch", "additive", reference.rnnsearch),
        ("luong", "general", reference.luong),
        ("luong_feeding", "dot", reference.luong),
    ],
)
def test_decoder_equals_the_equations(name, score, equations):
    graphdef, params = tiny.build(name, score)
    model, outputs = nnx.merge(graphdef, params), tiny.run(graphdef, params, SOURCE, TARGET)
    memory, states = jax.device_get((outputs.memory, outputs.states))
    for n, (source, target) in enumerate(zip(np.asarray(SOURCE), np.asarray(TARGET), strict=True)):
        h = memory.source.values[n, source != model.pad]
        # Final states are at the last position (forward layer) and at the first (backward layer).
        summary = np.concatenate([h[-1, : HIDDEN // 2], h[0, HIDDEN // 2 :]])
        initial_state = np.tanh(summary @ value(model.initial) + value(model.initial_bias))
        y = value(model.target_embedding)[np.array([model.bos, *target[:-1]])]
        expected = equations(model, y, h, initial_state)
        np.testing.assert_allclose(states[n], expected, rtol=1e-5, atol=1e-5)


def test_rnnsearch_has_as_many_parameters_as_the_paper():
    """Bahdanau et al. 2015, app. A, at the sizes of app. A.2.3 and K = 30,000 words per side."""
    k, m, n, a, l = 30_000, 620, 1000, 1000, 500  # noqa: E741  symbols of the paper
    shapes = nnx.state(
        nnx.eval_shape(
            lambda: RNNsearch(
                vocabulary=k,
                embedding=m,
                hidden=n,
                maxout=l,
                encoder={"kind": "gru", "layers": 1, "direction": "both", "width": 2 * n},
                attention=ATTENTION | {"width": a},
                dropout=0.0,
                dtype="float32",
                initialization="glorot",
                key=jax.random.key(0),
            )
        )
    )
    encoder = 2 * (3 * (m * n + n * n + n))  # W, U and a bias for candidate and both gates
    decoder = 3 * (m * n + n * n + 2 * n * n + n)  # the encoder's terms and C
    alignment = n * a + 2 * n * a + a
    readout = 2 * l * (n + m + 2 * n) + 2 * l
    initial = 2 * n * n + n  # from both directions; the paper uses one
    expected = 2 * k * m + k * l + encoder + decoder + alignment + readout + initial
    assert sum(x.size for x in jax.tree.leaves(shapes)) == expected
