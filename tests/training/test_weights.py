"""Exported weights: exact round trip, and errors that name the array that does not fit."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from tests.models.tiny import transformer
from tests.training.runs import restore, toy_config, train
from training import weights
from training.errors import UserError
from training.state import TrainState

STEP = 7


def make_state(**changes):
    _, params = transformer(**changes)
    return TrainState(jnp.int32(STEP), params, None)


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


@pytest.fixture
def path(tmp_path):
    path = tmp_path / weights.FILE
    weights.write_weights(path, make_state(), STEP)
    return path


def test_restored_parameters_are_equal(path):
    state = make_state()
    restored = weights.restore(path, abstract(state))
    assert restored.record["step"] == int(restored.state.step) == STEP
    assert restored.state.opt_state is None
    jax.tree.map(np.testing.assert_array_equal, restored.state.params, state.params)


def test_scalars_and_transposed_arrays_are_restored(tmp_path):
    params = {
        "scalar": jnp.float32(2),
        "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }
    weights.write_weights(tmp_path / weights.FILE, TrainState(jnp.int32(0), params, None), 0)
    arrays = weights.read_weights(tmp_path / weights.FILE).arrays
    jax.tree.map(np.testing.assert_array_equal, arrays, params)
    assert arrays["scalar"].shape == ()


def test_names_are_the_paths_of_the_module(path):
    _, params = transformer()
    expected = {".".join(map(str, keys)): x[...].shape for keys, x in nnx.to_flat_state(params)}
    assert {name: x.shape for name, x in load_file(path).items()} == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 13}, r"'decoder\.0\.\S+' are float32 \[12\], the model has float32 \[13\]"),
        ({"encoder_layers": 2}, r"it has no weights 'encoder\.1\.\S+'\. Did you mean 'encoder\.0"),
        ({"decoder_layers": 0}, r"the model, which has no weights 'decoder\.0"),
    ],
)
def test_weights_of_another_model_are_rejected(path, changes, message):
    with pytest.raises(UserError, match=message):
        weights.restore(path, abstract(make_state(**changes)))


@pytest.mark.parametrize("content", [b"", b"\x08" + b"\0" * 7 + b"{}      ", None])
def test_damaged_files_are_rejected(path, content):
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="are missing or damaged"):
        weights.read_weights(path)


def test_run_starts_with_exported_weights(tmp_path):
    """Without learning, the parameters stay those of the file."""
    source, path = toy_config(train__steps=10), tmp_path / weights.FILE
    train(source, tmp_path / "source")
    state = restore(tmp_path / "source", source).state
    weights.write_weights(path, state, 10)
    config = toy_config(train__steps=1, train__init_from=str(path), optimizer__learning_rate=0.0)
    train(config, tmp_path / "run")
    started = restore(tmp_path / "run", config).state
    jax.tree.map(np.testing.assert_array_equal, started.params, state.params)


def test_training_cannot_start_from_a_moving_average(path):
    state = Averaged(jnp.int32(0), {}, {})
    with pytest.raises(UserError, match="not supported by this task"):
        weights.init_from(str(path), state, state)


class Averaged(NamedTuple):
    step: Any
    params: Any
    ema_params: Any
