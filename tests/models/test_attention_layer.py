"""The attention layer against NumPy, sampling, and rejected options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.attention_layer import AttentionLayer
from models.recurrence import make_matmul
from tests.models.seq2seq import tiny
from tests.models.seq2seq.reference import SCORES, softmax
from tests.models.seq2seq.tiny import ATTENTION, HIDDEN
from tests.models.tiny import SOURCE, TARGET, unoptimized_jit, with_random_params

VALID = np.asarray(SOURCE != 0)
ANNOTATIONS, STATES = (
    np.random.default_rng(n).normal(size=(2, n, HIDDEN)).astype(np.float32) for n in (6, 3)
)


@pytest.fixture(scope="module")
def layers():
    """One layer per score."""

    def create(score):
        options = ATTENTION | {"score": score, "key": jax.random.key(0)}
        return with_random_params(lambda: AttentionLayer(HIDDEN, HIDDEN, **options))

    return {score: create(score) for score in SCORES}


@pytest.fixture(scope="module")
def outputs(layers):
    """Contexts and alignment of each layer, computed by one program."""
    graphdef, params = nnx.split(nnx.Dict(layers))

    @unoptimized_jit
    def attend(params, annotations, states):
        layers = nnx.merge(graphdef, params)
        outputs = {}
        for score, layer in layers.items():
            source = layer.project(annotations, annotations[:, 0], jnp.asarray(VALID))
            matmul, params = make_matmul(layer.weights()), layer.broadcast_params(2)
            outputs[score] = layer(matmul, params, source, states, jnp.arange(3))
        return outputs

    return jax.device_get(attend(params, ANNOTATIONS, STATES))


@pytest.mark.parametrize("score", SCORES)
def test_weights_and_contexts_equal_the_equations(score, layers, outputs):
    contexts, alignment = outputs[score]
    for b, t in np.ndindex(2, 3):
        annotations, weights = ANNOTATIONS[b][VALID[b]], alignment.weights[b, t]
        expected = softmax(SCORES[score](layers[score], STATES[b, t], annotations))
        np.testing.assert_allclose(weights[VALID[b]], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(contexts[b, t], expected @ annotations, rtol=1e-5, atol=1e-5)
        assert not weights[~VALID[b]].any()


def test_expectation_replaces_samples_of_hard_alignment():
    graphdef, params = tiny.build("rnnsearch", alignment="hard")

    @unoptimized_jit
    def decode(params, use_expectation):
        model = nnx.merge(graphdef, params)
        memory = model.with_sampling(model.encode(SOURCE)[0], jax.random.key(1))
        sampling = memory.sampling._replace(use_expectation=use_expectation)
        return model.decode(TARGET, memory._replace(sampling=sampling))

    states, alignment = decode(params, jnp.array([True, False]))
    soft = tiny.run(*tiny.build("rnnsearch"), SOURCE, TARGET)
    np.testing.assert_allclose(states[0], soft.states[0], atol=1e-5)
    assert not alignment.log_prob[0].any()
    assert (alignment.log_prob[1] < 0).all()
    assert jnp.all((alignment.weights[1] == 0) | (alignment.weights[1] == 1))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"score": "scaled"}, "score must be one of content, additive"),
        ({"alignment": "sof"}, "alignment must be one of soft, hard"),
        ({"score": "dot"}, "make them equal, or choose 'general' or 'additive'"),
        ({"alignment": "local_p", "half_width": 0}, "half_width of at least 1, not 0"),
    ],
)
def test_invalid_options_are_rejected(changes, message, disable_type_checks):
    with pytest.raises(ValueError, match=message):
        AttentionLayer(8, 6, **ATTENTION | changes, key=jax.random.key(0))


def test_source_longer_than_the_location_score_is_rejected():
    options = ATTENTION | {"score": "location", "max_source_length": 2, "key": jax.random.key(0)}
    layer = with_random_params(lambda: AttentionLayer(8, 6, **options))
    with pytest.raises(ValueError, match="a source of 3 tokens exceeds .*max_source_length=2"):
        layer.project(jnp.ones((1, 3, 6)), jnp.ones((1, 6)), jnp.ones((1, 3), bool))
