"""Files of TSPLIB (Reinelt 1991): instances of cities in the plane, and tours."""

import itertools
import re
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from training.errors import UserError

FARTHEST = 1e12  # coordinates, of which distances are to be whole numbers


class Instance(NamedTuple):
    """What a `.tsp` file holds."""

    name: str
    numbers: list[int]  # by which the file calls the cities
    cities: Float[np.ndarray, "N 2"]


def read(text: str) -> Instance:
    """Reads a symmetric instance with Euclidean distances, EUC_2D.

    Raises:
        UserError: for another kind of instance, or lines that are no cities.
    """
    head, *rest = re.split(r"^\s*NODE_COORD_SECTION\b.*$", text, maxsplit=1, flags=re.MULTILINE)
    if not rest:
        raise UserError("The instance has no NODE_COORD_SECTION: give a .tsp file of TSPLIB.")
    fields = {}
    for line in head.splitlines():
        key, _, value = line.partition(":")
        fields[key.strip().upper()] = value.strip()
    for field, known in (("TYPE", "TSP"), ("EDGE_WEIGHT_TYPE", "EUC_2D")):
        if (found := fields.get(field, "")) != known:
            raise UserError(f"The instance's {field} is '{found}', and only {known} is known here.")
    listed = list(itertools.takewhile(lambda line: line.strip() != "EOF", rest[0].splitlines()))
    cities = [_city(line) for line in listed if line.strip()]
    if fields.get("DIMENSION", "").lstrip("0") != str(len(cities)):
        raise UserError(
            f"The instance says that it has {fields.get('DIMENSION')} cities, but {len(cities)} "
            "are listed."
        )
    numbers = [number for number, _, _ in cities]
    if len(set(numbers)) < len(numbers):
        raise UserError("Two cities of the instance have the same number.")
    return Instance(
        fields.get("NAME", "unnamed"), numbers, np.array([place for _, *place in cities])
    )


def _city(line: str) -> tuple[int, float, float]:
    """Its number and where it is."""
    try:
        number, x, y = line.split()
        city = int(number), float(x), float(y)
    except ValueError:
        city = (0, np.nan, np.nan)
    if not all(abs(x) < FARTHEST for x in city[1:]):
        raise UserError(f"'{line.strip()}' is no city: a number and two coordinates.")
    return city


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
    """The text of a `.tour` file."""
    head = (
        f"NAME : {instance.name}.tour",
        f"COMMENT : length {length(instance.cities, order)}",
        "TYPE : TOUR",
        f"DIMENSION : {len(order)}",
        "TOUR_SECTION",
    )
    return "\n".join([*head, *(str(instance.numbers[city]) for city in order), "-1", "EOF", ""])
