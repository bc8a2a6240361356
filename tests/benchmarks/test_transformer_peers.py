"""The Transformer of the benchmark in PyTorch: the same parameters and the same loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks import transformer
from benchmarks.sentences import our_task
from tests.models.test_transformer_peers import to_torch
from tests.models.tiny import unoptimized_jit

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers
TINY = {"width": 12, "hidden": 20, "heads": 2, "key_width": 6, "value_width": 6}
TINY |= {"encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0, "dtype": "float32"}


@pytest.mark.parametrize("name, millions", [("d256", 7.6), ("base", 63.1)])
def test_both_models_have_the_same_number_of_parameters(name, millions):
    size = transformer.sizes(quick=True)[name]
    ours = nnx.eval_shape(lambda: transformer.our_model(size)(key=jax.random.key(0)))
    count = sum(x.size for x in jax.tree.leaves(nnx.state(ours)))
    with torch.device("meta"):
        theirs = transformer.torch_model(size)
    assert sum(x.numel() for x in theirs.parameters()) == count
    assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize("pack", [False, True])
def test_loss_equals_pytorch(pack):
    base = transformer.sizes(quick=True)["base"]
    size = transformer.Size(4, 64, 13, base.model | TINY)
    task = our_task(transformer.our_model(size))
    params = task.init_params(jax.random.key(0))
    theirs = transformer.torch_model(size)
    table, weights = to_torch(params)
    weights = {f"transformer.{name}": x for name, x in weights.items()} | {"table.weight": table}
    state = theirs.state_dict() | {name: torch.tensor(x) for name, x in weights.items()}
    theirs.load_state_dict(state, strict=True)
    parameters = {name for name, _ in theirs.named_parameters()}
    assert parameters == weights.keys()

    batch = transformer.batches(size, pack)[0]
    value, tokens, _ = unoptimized_jit(task.loss)(
        params, jax.tree.map(jnp.asarray, batch), jax.random.key(0)
    )
    loss = theirs(**{name: torch.tensor(x, dtype=torch.long) for name, x in batch.items()})
    np.testing.assert_allclose(value / tokens, loss.item(), rtol=1e-5)
