"""Initial weights of the recurrent models, by the papers' rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Luong, RNNsearch
from models.seq2seq.initialization import initialize
from tests.models.seq2seq.tiny import ATTENTION
from tests.models.tiny import unoptimized_jit

OPTIONS = {
    "vocabulary": 200,
    "embedding": 24,
    "hidden": 32,
    "encoder": {"kind": "gru", "layers": 1, "direction": "both", "width": 32},
    "attention": ATTENTION | {"width": 40},
    "dropout": 0.0,
    "dtype": "float32",
}


def weights(create, initialization):
    """Return the initial weights by path, such as 'attention_layer/query', if all were 1 before."""
    key = jax.random.key(0)
    graphdef, shapes = nnx.split(
        nnx.eval_shape(lambda: create(**OPTIONS, initialization="glorot", key=key))
    )

    def initialized():
        model = nnx.merge(graphdef, jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), shapes))
        initialize(model, initialization, key)
        return nnx.state(model)

    state = unoptimized_jit(initialized)()
    return {
        "/".join(str(part) for part in path): np.asarray(leaf[...])
        for path, leaf in nnx.to_flat_state(state)
    }


def test_bahdanau():
    """App. B.1: N(0, 0.01^2) but for the recurrent matrices, the score and the biases."""
    found = weights(lambda **options: RNNsearch(maxout=16, **options), "bahdanau")
    for name, value in found.items():
        if name.endswith("bias") or name == "attention_layer/vector":
            assert not value.any(), name
        elif name in ("attention_layer/query", "attention_layer/key"):
            assert value.std() == pytest.approx(0.001, rel=0.1), name
        elif name.split("/")[-1] in ("gates", "candidate"):
            assert (value == 1).all(), name  # orthogonal already
        else:
            assert value.std() == pytest.approx(0.01, rel=0.1), name
            assert abs(value.mean()) < 0.001, name
    assert not np.allclose(found["source_embedding"], found["target_embedding"])
    assert {"readout_bias", "attention_layer/vector", "cell/gates", "output"} <= found.keys()


def test_luong():
    """Sec. 4.1: U(-0.1, 0.1), whose standard deviation is 0.2 / sqrt(12)."""
    create = lambda **options: Luong(layers=2, input_feeding=True, **options)
    for name, value in weights(create, "luong").items():
        assert abs(value).max() <= 0.1, name
        if value.size > 500:
            assert value.std() == pytest.approx(0.2 / 12**0.5, rel=0.1), name


@pytest.mark.parametrize("initialization", ["bahdanau", "luong"])
def test_factors_keep_their_values(initialization):
    """Gains near 0 make annotations vanish; a key strength near 0 makes attention uniform."""
    changes = {
        "encoder": {"kind": "self_attention", "layers": 1, "width": 32, "direction": "both"},
        "attention": OPTIONS["attention"] | {"score": "content", "width": 32},
    }
    create = lambda **options: RNNsearch(maxout=16, **options | changes)
    found = weights(create, initialization)
    factors = {name: x for name, x in found.items() if name.endswith(("gain", "key_strength"))}
    assert len(factors) == 3
    for name, value in factors.items():
        assert (value == 1).all(), name


@pytest.mark.usefixtures("disable_type_checks")
def test_unknown_initialization_is_an_error():
    with pytest.raises(ValueError, match="must be one of glorot, bahdanau, luong, not 'bahdanou'"):
        nnx.eval_shape(
            lambda: RNNsearch(maxout=4, **OPTIONS, initialization="bahdanou", key=jax.random.key(0))
        )
