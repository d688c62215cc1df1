"""The families by name, in the order in which they are reported."""

from generators.worlds.arithmetic.families import (
    ages,
    average,
    compare,
    percent,
    ratio,
    remainder,
    sequence,
    sharing,
    shopping,
    totals,
    travel,
    units,
    work,
)
from generators.worlds.arithmetic.shape import Family

FAMILIES: dict[str, Family] = {
    module.FAMILY.name: module.FAMILY
    for module in (totals, shopping, sharing, travel, percent, compare, ages, work, ratio, remainder, average, units, sequence)
}
