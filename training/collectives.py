"""What devices say to each other in a compiled program, counted from its text."""

import math
import re

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BITS = {"pred": 8, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "bf16": 16, "f16": 16}
BITS |= {"s32": 32, "u32": 32, "f32": 32, "s64": 64, "u64": 64, "f64": 64, "c64": 64, "c128": 128}

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = (.*?) ([a-z][\w-]*)\(")
_CALLED = re.compile(r"(?:calls|to_apply|body|branch_computations)=\{?(%[%\w.\-, ]+)")
_CONDITION = re.compile(r"condition=%([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_LIMIT = re.compile(r" = s32\[\]\S* constant\((\d+)\)")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")

Totals = dict[str, tuple[int, int]]


def count(text: str) -> Totals:
    """How many collectives of each kind a run of the program does, and the bytes of their results.

    A loop counts as often as it turns, if its limit is a constant; of a choice all branches count.

    Args:
        text: `compiled.as_text()`.
    """
    computations: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            lines = computations.setdefault(header[1], [])
            entry = header[1] if line.startswith("ENTRY") else entry
        elif _INSTRUCTION.match(line):
            lines.append(line)
    known: dict[str, Totals] = {}

    def total(name: str) -> Totals:
        if name not in known:
            known[name] = {}
            for line in computations.get(name, ()):
                known[name] = _sum(known[name], _own(line), 1)
                for other in called(line):
                    known[name] = _sum(known[name], total(other), turns(line))
        return known[name]

    def called(line: str) -> list[str]:
        return [x.strip(" %") for names in _CALLED.findall(line) for x in names.split(",")]

    def turns(line: str) -> int:
        condition = _CONDITION.search(line)
        if condition is None:
            return 1
        if trips := _TRIPS.search(line):
            return int(trips[1])
        limits = _LIMIT.findall("\n".join(computations.get(condition[1], ())))
        return max(map(int, limits), default=1)

    return dict(sorted(total(entry).items()))


def _own(line: str) -> Totals:
    """What an instruction says itself."""
    shape, operation = _INSTRUCTION.match(line).groups()  # type: ignore[union-attr]
    kind = operation.removesuffix("-start")
    if kind not in KINDS:
        return {}
    sizes = [
        math.prod(map(int, filter(None, sizes.split(",")))) * BITS.get(dtype, 8) // 8
        for dtype, sizes in _SHAPE.findall(shape)
    ]
    if operation in ("all-gather-start", "collective-permute-start"):
        sizes = sizes[1:2]  # operand, result, and flags of its own
    return {kind: (1, sum(sizes))}


def _sum(one: Totals, other: Totals, times: int) -> Totals:
    zero = (0, 0)
    return one | {
        kind: (one.get(kind, zero)[0] + times * n, one.get(kind, zero)[1] + times * size)
        for kind, (n, size) in other.items()
    }
