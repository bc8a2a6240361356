"""Training state of supervised tasks."""

from typing import Any, NamedTuple

from jaxtyping import Array, Int


class TrainState(NamedTuple):
    """Pytree of everything that a training step reads and updates.

    A task with more state (two networks, batch statistics) defines its own NamedTuple; the loop
    only requires a field `params`.
    """

    step: Int[Array, ""]
    params: Any
    opt_state: Any
