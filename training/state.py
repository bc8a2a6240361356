"""What a supervised task carries from step to step."""

from typing import Any, NamedTuple

from jaxtyping import Array, Int


class TrainState(NamedTuple):
    """Everything that an update reads and writes; a pytree, so it shards, donates and saves whole.

    Tasks with more to carry (two networks, batch statistics) define their own NamedTuple; the loop
    only asks that it has a field `params`.
    """

    step: Int[Array, ""]
    params: Any
    opt_state: Any
