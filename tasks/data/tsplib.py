"""Files of TSPLIB (Reinelt 1991): instances of cities in the plane, and tours."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from training.errors import UserError


class Instance(NamedTuple):
    """What a `.tsp` file holds."""

    name: str
    cities: Float[np.ndarray, "N 2"]


def read(text: str) -> Instance:
    """Reads a symmetric instance with Euclidean distances, EUC_2D.

    Raises:
        UserError: for another kind of instance, or lines that are no cities.
    """
    head, found, rest = text.partition("NODE_COORD_SECTION")
    if not found:
        raise UserError("The instance has no NODE_COORD_SECTION: give a .tsp file of TSPLIB.")
    fields = {}
    for line in head.splitlines():
        key, _, value = line.partition(":")
        fields[key.strip().upper()] = value.strip()
    kind = fields.get("EDGE_WEIGHT_TYPE", "")
    if kind != "EUC_2D":
        raise UserError(f"Distances of type '{kind}' are not known here, only EUC_2D.")
    cities = []
    for line in rest.splitlines():
        words = line.split()
        if words[:1] == ["EOF"]:
            break
        if not words:
            continue
        try:
            _, x, y = words
            cities.append((float(x), float(y)))
        except ValueError as error:
            raise UserError(
                f"'{line.strip()}' is no city: a number and two coordinates."
            ) from error
    if fields.get("DIMENSION") != str(len(cities)):
        raise UserError(
            f"The instance says that it has {fields.get('DIMENSION')} cities, but {len(cities)} "
            "are listed."
        )
    return Instance(fields.get("NAME", "unnamed"), np.array(cities))


def normalised(cities: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
    """The cities moved and scaled, both axes alike, into the unit square that networks know."""
    low = cities.min(0)
    extent = float((cities - low).max())
    return ((cities - low) / (extent or 1.0)).astype(np.float32)


def length(cities: Float[np.ndarray, "N 2"], order: Int[np.ndarray, " N"]) -> int:
    """Of a closed tour in TSPLIB's whole numbers: each road is rounded by itself."""
    path = cities[order]
    roads = np.linalg.norm(path - np.roll(path, -1, axis=0), axis=-1)
    return int(np.floor(roads + 0.5).sum())


def tour(instance: Instance, order: Int[np.ndarray, " N"]) -> str:
    """The text of a `.tour` file, in which cities count from 1."""
    head = (
        f"NAME : {instance.name}.tour",
        f"COMMENT : length {length(instance.cities, order)}",
        "TYPE : TOUR",
        f"DIMENSION : {len(order)}",
        "TOUR_SECTION",
    )
    return "\n".join([*head, *(str(city + 1) for city in order), "-1", "EOF", ""])
