"""What is asked of a model that reads one sequence and writes another."""

from typing import Any, NamedTuple, Protocol

from jaxtyping import Array, Float, Int, PRNGKeyArray

Weights = list[Float[Array, "B H _ _"] | None]  # queries by keys


class Attention(NamedTuple):
    """Attention weights of a full pass, one array per layer; unused ones cost nothing under jit.

    A model without one of the three has an empty list there, one without heads a single head.
    """

    encoder: Weights
    decoder: Weights
    cross: Weights


class EncoderDecoder(Protocol):
    """A `flax.nnx` module; what is `Any` is its own affair and passed on as it is."""

    pad: int
    bos: int

    @property
    def draws(self) -> bool:
        """Whether training draws what is attended to, and so needs the score function."""
        ...

    def encode(self, source: Int[Array, "B S"], key: PRNGKeyArray | None = None) -> tuple[Any, Any]:
        """The memory that the decoder reads, and weights; `key` is for dropout."""
        ...

    def decode(
        self, target: Int[Array, "B T"], memory: Any, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "B T D"], Any]:
        """The states under the softmax, teacher-forced, and weights."""
        ...

    @property
    def output_table(self) -> Float[Array, "V D"]:
        """Of the softmax: logits are `states @ output_table.T`."""
        ...

    def attention(self, source: Int[Array, "B S"], target: Int[Array, "B T"]) -> Attention:
        """The weights of a full pass, to look at."""
        ...

    def init_cache(self, memory: Any, beams: int, length: int) -> Any:
        """A pytree of arrays `[B, W, ...]` for `length` steps of decoding."""
        ...

    def decode_step(
        self, tokens: Int[Array, "B W"], cache: Any, memory: Any, position: Int[Array, ""]
    ) -> tuple[Float[Array, "B W V"], Any]:
        """Logits of the token at `position` given the one before it, and the next cache."""
        ...
