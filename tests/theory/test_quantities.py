"""The README's table of what is computed: generated, current, and not more than the arithmetics say."""

from pathlib import Path

import pytest
import sympy

import theory
from theory.arithmetic import SYMPY
from theory.quantities import QUANTITIES, markdown

README = Path(theory.__file__).parents[1] / "README.md"


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


def test_the_readme_shows_the_table():
    """Word for word but for the float64 digits, of which another machine's libm may keep one more."""
    live = cells(markdown())
    printed = {row[0].strip("` "): row for row in cells(readme_table())}
    assert len(printed) == len(live), "README.md is behind: paste the output of python -m theory.quantities"
    for row in live:
        shown = printed[row[0].strip("` ")]
        assert shown[:3] + shown[4:] == row[:3] + row[4:]
        assert shown[3] == row[3] == "-" or int(shown[3]) <= int(row[3]) + 1


def readme_table():
    lines = README.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| call | what |"))
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("|"))
    return "\n".join(lines[start:end])


@pytest.mark.parametrize("quantity", [q for q in QUANTITIES if "ball" in q.arithmetics], ids=lambda q: q.name)
def test_digits_are_proved_and_float64_keeps_most(quantity):
    """At 128 bits a ball is worth 30 digits; what float64 may lose of its sixteen to cancellation is three."""
    assert quantity.certified_digits() >= 30
    assert quantity.float_digits() >= 12


@pytest.mark.parametrize("quantity", [q for q in QUANTITIES if "sympy" in q.arithmetics], ids=lambda q: q.name)
def test_the_formula_itself(quantity):
    formula = quantity.call(SYMPY)
    assert isinstance(formula, sympy.Basic)
    # sympy holds the argument 1.7 to fifteen digits, and a bound that is a small difference loses three of them.
    assert abs(float(formula.evalf(30)) - quantity.value()) <= 1e-11 * abs(quantity.value())
