"""SNAIL of the benchmark in PyTorch: the same loss of PPO and the same gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks import snail
from models.snail.network import SNAIL, AttentionBlock
from tasks.meta_rl import ppo
from tests.models.tiny import unoptimized_jit, with_random_params

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers
BATCH, LENGTH, INPUTS, ACTIONS = 3, 6, 7, 5


def to_torch(model):
    """Our weights with the names and in the layout of the PyTorch model."""
    yield "embed.weight", model.embedding[...].T
    yield "embed.bias", model.embedding_bias[...]
    for n, block in enumerate(model.backbone.blocks):
        if isinstance(block, AttentionBlock):
            yield "attention.weight", block.kernel[...].T
            yield "attention.bias", block.bias[...]
        else:
            yield f"kernels.{n}.weight", block.kernel[...].T
            yield f"biases.{n}", block.bias[...]
    yield "heads.weight", model.heads.kernel[...].T
    yield "heads.bias", model.heads.bias[...]


def test_loss_and_gradients_equal_pytorch():
    options = snail.make_config().ppo
    sizes = {"inputs": INPUTS, "actions": ACTIONS, "embedding": snail.EMBEDDING}
    blocks = "TC(32) TC(32) Att(32,32)"
    create = lambda: SNAIL(
        **sizes, blocks=blocks, max_length=LENGTH, remat="none", key=jax.random.key(0)
    )
    graphdef, params = nnx.split(with_random_params(create))
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=(BATCH, LENGTH, *shape)).astype(np.float32)
    actions = rng.integers(ACTIONS, size=(BATCH, LENGTH), dtype=np.int32)
    # Log-probabilities near those of the policy, so that some ratios are clipped and some are not.
    experience = ppo.Experience(normal(INPUTS), actions, -1.6 + 0.5 * normal(), normal(), normal())

    def loss(params):
        logits, values = nnx.merge(graphdef, params)(jnp.asarray(experience.inputs))
        weights = {name: options[name] for name in ("clip", "value_weight", "entropy_weight")}
        return ppo.loss(logits, values, jax.tree.map(jnp.asarray, experience), **weights)[0]

    value, gradients = unoptimized_jit(jax.value_and_grad(loss))(params)
    named = lambda x: {n: np.array(y) for n, y in to_torch(nnx.merge(graphdef, x))}
    theirs = snail.torch_snail(INPUTS, ACTIONS, LENGTH).double()
    theirs.load_state_dict({n: torch.tensor(x) for n, x in named(params).items()}, strict=True)
    as_tensor = lambda x: torch.tensor(x, dtype=torch.long if x.dtype == np.int32 else torch.double)
    found = snail.torch_loss(theirs, [as_tensor(x) for x in experience], options)
    found.backward()
    np.testing.assert_allclose(value, found.item(), rtol=1e-5)
    expected = named(gradients)
    for name, parameter in theirs.named_parameters():
        atol = 1e-5 * np.abs(expected[name]).max()
        np.testing.assert_allclose(
            parameter.grad, expected[name], atol=atol, rtol=1e-4, err_msg=name
        )
