"""The few-shot classifier of the benchmark in PyTorch: the same parameters and the same loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks import few_shot
from models.snail.network import AttentionBlock
from tasks.few_shot import build_abstract
from tasks.few_shot.episodes import Episodes
from tests.models.tiny import unoptimized_jit

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers


def to_torch(model):
    """Our weights with the names and in the layout of the PyTorch model."""
    embedding = model.embedding
    for n, (kernel, norm) in enumerate(zip(embedding.kernels, embedding.norms, strict=True)):
        yield f"convs.{n}.conv.weight", kernel.transpose(3, 2, 0, 1)
        yield f"convs.{n}.norm.weight", norm.gain
        yield f"convs.{n}.norm.bias", norm.bias
    yield "embedding.weight", embedding.output.T
    yield "embedding.bias", embedding.output_bias
    for n, block in enumerate(model.backbone.blocks):
        name = "projection" if isinstance(block, AttentionBlock) else "kernel"
        yield f"blocks.{n}.{name}.weight", block.kernel.T
        bias = f"{name}.bias" if isinstance(block, AttentionBlock) else "bias"
        yield f"blocks.{n}.{bias}", block.bias
    yield "output.weight", model.output.T
    yield "output.bias", model.output_bias


@pytest.mark.parametrize("name", ["small", "omniglot"])
def test_both_models_have_the_same_parameters(name):
    config = few_shot.make_configs(quick=True)[name]
    ours = nnx.eval_shape(lambda: build_abstract(config, "").create(jax.random.key(0)))
    with torch.device("meta"):
        theirs = few_shot.torch_model(config)
    count = sum(x.size for x in jax.tree.leaves(nnx.state(ours)))
    assert sum(x.numel() for x in theirs.parameters()) == count


def test_loss_and_gradients_equal_pytorch():
    config = few_shot.make_configs(quick=True)["small"]
    config.data.update(image_size=19, ways=3, shots=(2,), queries=2)  # an odd size, for the pooling
    config.model.update(filters=4, embedding=6, blocks="Att(4,5) TC(4)")
    task, batch = build_abstract(config, ""), few_shot.batches(config)[0]
    episodes = Episodes(**jax.tree.map(jnp.asarray, batch))
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: x + rng.normal(0, 0.1, x.shape).astype(np.float32),  # no weight is zero
        task.init_params(jax.random.key(0)),
    )

    def mean_loss(params):
        total, count, _ = task.loss(params, episodes, jax.random.key(0))
        return total / count

    value, gradients = unoptimized_jit(jax.value_and_grad(mean_loss))(params)
    named = lambda x: {name: np.array(y) for name, y in to_torch(nnx.merge(task.graphdef, x))}
    # In float64, since the rounding of PyTorch's float32 gradients depends on the CPU: that of the
    # embedding's bias is zero, because embeddings are normalized, but 1e-5 on an AMD EPYC.
    theirs = few_shot.torch_model(config).double()
    theirs.load_state_dict({k: torch.tensor(x) for k, x in named(params).items()}, strict=True)
    as_tensor = lambda x: torch.tensor(x, dtype=torch.long if x.dtype == np.int32 else None)
    loss = theirs(**{name: as_tensor(x) for name, x in batch.items()})
    loss.backward()
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    expected = named(gradients)
    for name, parameter in theirs.named_parameters():
        np.testing.assert_allclose(
            parameter.grad, expected[name], atol=1e-5, rtol=1e-4, err_msg=name
        )
