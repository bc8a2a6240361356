"""Attention maps: weights with the queries and keys they belong to, and their files.

    attention_maps.save([AttentionMap("one cat", "cross", weights, target, source)], "maps.npz")

The file is a NumPy archive of plain arrays, so weights of any framework can be stored in this form
and viewed with `python -m tasks.viewer maps.npz page.html`.
"""

import dataclasses
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from jaxtyping import Float, Int, UInt8

from training.errors import UserError, first_line
from training.files import atomic_write


@dataclasses.dataclass(frozen=True, eq=False)
class Tokens:
    """Tokens on a line."""

    title: str
    labels: Sequence[str]
    kind: ClassVar[str] = "tokens"

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class Points:
    """Points in the plane; further labels name keys without coordinates, such as 'end'."""

    title: str
    labels: Sequence[str]
    coordinates: Float[np.ndarray, "N 2"]
    kind: ClassVar[str] = "points"

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class Choices:
    """Decoding steps, each of which chooses a key.

    Attributes:
        title: description of the axis.
        indices: chosen key of each step.
        polygon: number of consecutive choices that form a polygon, or 0 if all form one path.
    """

    title: str
    indices: Int[np.ndarray, " T"]
    polygon: int = 0
    kind: ClassVar[str] = "choices"

    def __len__(self) -> int:
        return len(self.indices)


@dataclasses.dataclass(frozen=True, eq=False)
class Patches:
    """Cells of a regular grid over an image, row by row."""

    title: str
    image: UInt8[np.ndarray, "Y X C"]
    rows: int
    columns: int
    kind: ClassVar[str] = "patches"

    def __len__(self) -> int:
        return self.rows * self.columns


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Labeled images on a line."""

    title: str
    labels: Sequence[str]
    images: UInt8[np.ndarray, "N Y X C"]
    kind: ClassVar[str] = "images"

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """Steps of a trial with an action and a reward; the reward is NaN where there is none."""

    title: str
    labels: Sequence[str]
    rewards: Float[np.ndarray, " T"]
    kind: ClassVar[str] = "steps"

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class TimeSteps:
    """Time steps of a recurrent network with its inputs and outputs, both scaled to [0, 1]."""

    title: str
    inputs: Float[np.ndarray, "T I"]
    outputs: Float[np.ndarray, "T O"]
    kind: ClassVar[str] = "time"

    def __len__(self) -> int:
        return len(self.inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryRows:
    """Rows of a memory."""

    title: str
    count: int
    kind: ClassVar[str] = "rows"

    def __len__(self) -> int:
        return self.count


Axis = Tokens | Points | Choices | Patches | Images | Steps | TimeSteps | MemoryRows
KINDS: Mapping[str, Any] = {
    kind.kind: kind
    for kind in (Tokens, Points, Choices, Patches, Images, Steps, TimeSteps, MemoryRows)
}


Queries = TypeVar("Queries", bound=Axis)
Keys = TypeVar("Keys", bound=Axis)


@dataclasses.dataclass(frozen=True, eq=False)
class AttentionMap(Generic[Queries, Keys]):
    """Attention weights of one example.

    Attributes:
        example: title of the example; an example may have several maps.
        name: name of the map within the example, such as 'cross-attention'.
        weights: weights of every layer and head, in [0, 1].
        queries: the T queries.
        keys: the S keys.
        heads: names of the heads, if they have different roles; 'head 1', 'head 2', ... by default.

    Raises:
        UserError: if the weights are not in [0, 1], or the sizes differ.
    """

    example: str
    name: str
    weights: Float[np.ndarray, "L H T S"]
    queries: Queries
    keys: Keys
    heads: Sequence[str] = ()

    def __post_init__(self):
        weights = np.asarray(self.weights, np.float32)
        object.__setattr__(self, "weights", weights)
        where = f"The attention map '{self.name}' of '{self.example}'"
        sizes = (len(self.queries), len(self.keys))
        if weights.ndim != 4 or 0 in weights.shape or weights.shape[2:] != sizes:
            raise UserError(
                f"{where} has weights of shape {list(weights.shape)}: the shape must be [layers, "
                f"heads, {sizes[0]} queries, {sizes[1]} keys]."
            )
        if not (weights.min() >= 0 and weights.max() <= 1.001):  # also false for NaN
            raise UserError(f"{where} has weights outside of [0, 1]: apply the softmax first.")
        count = weights.shape[1]
        heads = self.heads or default_heads(count)
        if len(heads) != count:
            raise UserError(f"{where} has {count} heads and {len(heads)} names of heads.")
        object.__setattr__(self, "heads", tuple(heads))


def default_heads(count: int) -> tuple[str, ...]:
    """Return the names of heads without a name."""
    return tuple(f"head {n + 1}" for n in range(count))


def save(maps: Sequence[AttentionMap], path: Path | str) -> None:
    """Write maps to an `.npz` file.

    The arrays of map n are `n/weights`, `n/example`, `n/name`, `n/heads`, and for both axes
    `n/queries/kind`, `n/queries/title` and further fields of the kind; see the classes above.
    """
    arrays: dict[str, Any] = {}
    for n, record in enumerate(maps):
        for field in dataclasses.fields(record):
            value = getattr(record, field.name)
            if field.name in ("queries", "keys"):
                arrays[f"{n}/{field.name}/kind"] = value.kind
                for part in dataclasses.fields(value):
                    arrays[f"{n}/{field.name}/{part.name}"] = getattr(value, part.name)
            else:
                arrays[f"{n}/{field.name}"] = value
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    with atomic_write(Path(path)) as file:
        file.write(buffer.getvalue())


def load(path: Path | str) -> list[AttentionMap]:
    """Read the maps of an `.npz` file.

    Raises:
        UserError: if the file cannot be read or is not a file of attention maps.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"Cannot read attention maps from {path}: {reason}.") from error
    numbers = sorted({int(n) for name in arrays if (n := name.split("/")[0]).isdecimal()})
    if not numbers:
        raise UserError(f"{path} has no attention maps: write it by `attention_maps.save`.")
    try:
        return [_read_map(arrays, str(n)) for n in numbers]
    except KeyError as error:
        raise UserError(
            f"{path} has no array '{error.args[0]}': write it by `attention_maps.save`."
        ) from error


def _read_map(arrays, prefix):
    heads = f"{prefix}/heads"
    return AttentionMap(
        str(arrays[f"{prefix}/example"]),
        str(arrays[f"{prefix}/name"]),
        arrays[f"{prefix}/weights"],
        _read_axis(arrays, f"{prefix}/queries"),
        _read_axis(arrays, f"{prefix}/keys"),
        arrays[heads].tolist() if heads in arrays else (),
    )


def _read_axis(arrays, prefix):
    kind = KINDS.get(name := str(arrays[f"{prefix}/kind"]))
    if kind is None:
        raise UserError(f"'{prefix}/kind' is '{name}': it must be one of {', '.join(KINDS)}.")
    values = {}
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING and f"{prefix}/{field.name}" not in arrays:
            continue
        value = arrays[f"{prefix}/{field.name}"]
        # Text and scalars become Python objects.
        values[field.name] = value.tolist() if value.ndim == 0 or value.dtype.kind == "U" else value
    return kind(**values)
