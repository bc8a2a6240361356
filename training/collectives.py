"""Collective operations of a compiled XLA program, counted from its HLO text."""

import math
import re

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BITS = {"pred": 8, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "bf16": 16, "f16": 16}
BITS |= {"s32": 32, "u32": 32, "f32": 32, "s64": 64, "u64": 64, "f64": 64, "c64": 64, "c128": 128}

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = (.*?) ([a-z][\w-]*)\(")
_CALLED = re.compile(r"(?:calls|to_apply|body|branch_computations)=\{?(%[%\w.\-, ]+)")
_CONDITION = re.compile(r"condition=%([\w.-]+)")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_LOOP_LIMIT = re.compile(r" = s32\[\]\S* constant\((\d+)\)")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")

Totals = dict[str, tuple[int, int]]  # executions and result bytes of each kind


def count(text: str) -> Totals:
    """Count the collectives that one run of the program executes, and the bytes of their results.

    The body of a loop counts once per iteration if the trip count is a constant, otherwise once.
    Every branch of a conditional counts.

    Args:
        text: `compiled.as_text()`.

    Returns:
        `{kind: (executions, bytes)}`, with bytes summed over the executions.
    """
    computations: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            lines = computations.setdefault(header[1], [])
            entry = header[1] if line.startswith("ENTRY") else entry
        elif _INSTRUCTION.match(line):
            lines.append(line)
    totals: dict[str, Totals] = {}

    def total(name: str) -> Totals:
        if name not in totals:
            totals[name] = {}
            for line in computations.get(name, ()):
                totals[name] = _add(totals[name], _count_instruction(line), 1)
                for callee in _called_computations(line):
                    totals[name] = _add(totals[name], total(callee), trip_count(line))
        return totals[name]

    def trip_count(line: str) -> int:
        condition = _CONDITION.search(line)
        if condition is None:
            return 1
        if known := _TRIP_COUNT.search(line):
            return int(known[1])
        limits = _LOOP_LIMIT.findall("\n".join(computations.get(condition[1], ())))
        return max(map(int, limits), default=1)

    return dict(sorted(total(entry).items()))


def _called_computations(line: str) -> list[str]:
    return [name.strip(" %") for names in _CALLED.findall(line) for name in names.split(",")]


def _count_instruction(line: str) -> Totals:
    """Count a single instruction, without the computations it calls."""
    shape, operation = _INSTRUCTION.match(line).groups()  # type: ignore[union-attr]
    kind = operation.removesuffix("-start")
    if kind not in COLLECTIVES:
        return {}
    sizes = [
        math.prod(map(int, filter(None, dimensions.split(",")))) * BITS.get(dtype, 8) // 8
        for dtype, dimensions in _SHAPE.findall(shape)
    ]
    if operation in ("all-gather-start", "collective-permute-start"):
        sizes = sizes[1:2]  # the tuple also holds the operand and context scalars
    return {kind: (1, sum(sizes))}


def _add(total: Totals, other: Totals, times: int) -> Totals:
    """Return `total + times * other`."""
    zero = (0, 0)
    return total | {
        kind: (total.get(kind, zero)[0] + times * n, total.get(kind, zero)[1] + times * size)
        for kind, (n, size) in other.items()
    }
