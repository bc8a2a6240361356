"""Weights of a finished run in a safetensors file, without its optimizer state."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
from safetensors.numpy import load_file, save

from training.checkpoints import Restored
from training.errors import UserError, did_you_mean, first_line
from training.files import atomic_write

FILE = "weights.safetensors"  # in a directory with the `config.json` of the run


class Weights(NamedTuple):
    """Content of a file.

    Attributes:
        step: number of finished steps of the run.
        arrays: parameters by name ("encoder.blocks.0.kernel").
    """

    step: int
    arrays: dict[str, np.ndarray]


def evaluated_field(state: Any) -> str:
    """Return the field of a state whose parameters are evaluated.

    It is `ema_params` if the task has a moving average of the parameters, else `params`.
    """
    return "ema_params" if hasattr(state, "ema_params") else "params"


def write_weights(path: Path, state: Any, step: int) -> None:
    """Write the evaluated parameters of a state atomically.

    Raises:
        OSError: if the file cannot be written.
    """
    params = jax.device_get(getattr(state, evaluated_field(state)))
    arrays = {name: np.asarray(x, order="C") for name, x in _named_leaves(params).items()}
    with atomic_write(path) as file:
        file.write(save(arrays, {"step": str(step)}))


def read_weights(path: Path) -> Weights:
    """Read a file that `write_weights` has written.

    Raises:
        UserError: if the file is missing, damaged, or another safetensors file.
    """
    try:
        with safetensors.safe_open(path, "numpy") as file:
            step = int(file.metadata()["step"])
        return Weights(step, load_file(path))
    except (OSError, ValueError, TypeError, KeyError, safetensors.SafetensorError) as error:
        raise UserError(
            f"The weights {path} are missing or damaged ({first_line(error)}): restore the file, "
            "or export it again with `eval.py --export`."
        ) from error


def restore(path: Path, abstract: Any) -> Restored:
    """Restore a state that has only its step and the evaluated parameters; other fields are None.

    Args:
        path: a file that `write_weights` has written.
        abstract: shapes, dtypes and shardings of the state.

    Raises:
        UserError: if the file cannot be read or does not fit the model.
    """
    weights, field = read_weights(path), evaluated_field(abstract)
    params = load_params(weights, getattr(abstract, field), path)
    known = {"step": np.int32(weights.step), field: params}
    fields = {name: known.get(name) for name in abstract._fields}
    return Restored(type(abstract)(**fields), {"step": weights.step})


def init_from(file: str, state: Any, abstract: Any) -> Any:
    """Return an initial state whose parameters are exported weights.

    Args:
        file: path of a file that `write_weights` has written.
        state: initial state.
        abstract: shapes, dtypes and shardings of the state.

    Raises:
        UserError: if the file cannot be read or does not fit the model, or if the task exports a
            moving average, from which training cannot start.
    """
    if evaluated_field(state) != "params":
        raise UserError(
            "train.init_from is not supported by this task, whose exported weights are a moving "
            "average: choose --config.train.init_from=none."
        )
    path = Path(file)
    return state._replace(params=load_params(read_weights(path), abstract.params, path))


def load_params(weights: Weights, abstract: Any, path: Path) -> Any:
    """Return the parameters with the structure and the shardings of a model.

    Args:
        weights: content of a file.
        abstract: shapes, dtypes and shardings of the parameters.
        path: of the file, for errors.

    Raises:
        UserError: if a name, shape or dtype differs; the message names the first one.
    """
    expected = _named_leaves(abstract)
    for name in [*expected, *weights.arrays]:
        if name not in weights.arrays:
            found = did_you_mean(name, weights.arrays)
            raise UserError(f"{path} does not fit the model: it has no weights '{name}'.{found}")
        if name not in expected:
            found = did_you_mean(name, expected)
            raise UserError(f"{path} does not fit the model, which has no weights '{name}'.{found}")
        array, shape = weights.arrays[name], expected[name]
        if (array.shape, array.dtype) != (shape.shape, shape.dtype):
            raise UserError(
                f"{path} does not fit the model: the weights '{name}' are {array.dtype} "
                f"{list(array.shape)}, the model has {shape.dtype} {list(shape.shape)}."
            )
    leaves = [jax.device_put(weights.arrays[name], expected[name].sharding) for name in expected]
    return jax.tree.unflatten(jax.tree.structure(abstract), leaves)


def _named_leaves(params: Any) -> dict[str, Any]:
    """Return the leaves by name, in their order."""
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator=".")
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {name(path).removesuffix(".value"): leaf for path, leaf in leaves}
