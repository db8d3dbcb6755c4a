"""Every validation and every error message: what a formula accepts is declared, not re-written.

A formula names its arguments with their domains and receives them converted to one arithmetic::

    xp, beta, sigma = accept(beta=(beta, SHAPE), sigma=(sigma, POSITIVE))
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
from flint import acb
from mpmath import mpc

from theory import arithmetic
from theory.arithmetic import Number


@dataclass(frozen=True)
class Domain:
    """An interval of the real line; `open` ends are excluded; NaN belongs to no domain."""

    low: Any = -np.inf
    high: Any = np.inf
    low_open: bool = True
    high_open: bool = True
    integer: bool = False

    def __str__(self) -> str:
        left, right = "([" [not self.low_open], ")]"[not self.high_open]
        kind = "integers of " if self.integer else ""
        low, high = (f"{x:g}" if isinstance(x, float | int) else str(x) for x in (self.low, self.high))
        return f"{kind}{left}{low}, {high}{right}"

    def contains(self, x: Any) -> Any:
        """Whether `x` (or each element of an array) certainly lies in the domain."""
        inside = (x > self.low) if self.low_open else (x >= self.low)
        inside = inside & ((x < self.high) if self.high_open else (x <= self.high))
        return inside & (x == np.floor(x)) if self.integer else inside

    def excludes(self, x: sympy.Expr) -> bool:
        """Whether a symbolic `x` certainly lies outside: a free symbol gets the benefit of the doubt."""
        if x is sympy.nan or x.is_extended_real is False or (self.integer and x.is_integer is False):
            return True
        low = x > self.low if self.low_open else x >= self.low
        high = x < self.high if self.high_open else x <= self.high
        return low is sympy.false or high is sympy.false


REAL = Domain()
EXTENDED = Domain(low_open=False, high_open=False)
POSITIVE = Domain(0)
NONNEGATIVE = Domain(0, low_open=False)
SHAPE = Domain(0)
FISHER_SHAPE = Domain(0.5)
LOG_CONCAVE_SHAPE = Domain(1, low_open=False)
OPEN_UNIT = Domain(0, 1)
COUNT = Domain(1, low_open=False, integer=True)
ORDER = Domain(0, low_open=False, integer=True)


def check(name: str, value: Any, domain: Domain) -> None:
    """Raise ValueError naming the argument, the value and the domain unless `value` lies in `domain`.

    An array is reported with the first offending index. A ball must lie in the domain as a whole.

    >>> check("beta", -1.0, SHAPE)
    Traceback (most recent call last):
    ...
    ValueError: beta = -1.0 is outside (0, inf)
    """
    values = np.asarray(value, dtype=None if isinstance(value, np.ndarray) else object)
    if values.dtype != object:
        bad = ~domain.contains(values)
        if bad.any():
            index = tuple(int(i) for i in np.argwhere(bad)[0])
            _refuse(name + (f"[{', '.join(map(str, index))}]" if index else ""), values[index], domain)
        return
    for index, item in np.ndenumerate(values):
        if isinstance(item, sympy.Basic):
            good = not domain.excludes(item)
        else:
            good = not isinstance(item, acb | mpc) and domain.contains(item)
        if not good:
            _refuse(name + (f"[{', '.join(map(str, index))}]" if index else ""), item, domain)


def _refuse(name: str, value: Any, domain: Domain) -> None:
    shown = value.item() if isinstance(value, np.generic) else value
    raise ValueError(f"{name} = {shown} is outside {domain}")


def accept(**arguments: tuple[Number, Domain]) -> tuple[Any, ...]:
    """Return ``(arithmetic, *values)``: the values converted to their common arithmetic and checked.

    Raises
    ------
    ValueError
        If a value is outside its domain; the message names the argument, the value and the domain.
    TypeError
        If a value is no number.
    """
    xp = arithmetic.of(*(value for value, _ in arguments.values()))
    converted = []
    for name, (value, domain) in arguments.items():
        try:
            if isinstance(value, list | tuple):
                value = np.asarray(value, dtype=None if xp.name == "float" else object)
            if isinstance(value, str | bytes):
                raise TypeError('give a number, such as mpf("1.7") or arb("1.7")')
            number = xp.number(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(f"{name} = {value!r} is not a number: {error}") from error
        check(name, number, domain)
        converted.append(number)
    return (xp, *converted)


def increasing(name: str, values: Any) -> None:
    """Raise ValueError unless the 1-D `values` are finite in number, not empty, and strictly increasing."""
    values = np.asarray(values)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name} must be a non-empty 1-D sequence, not of shape {values.shape}")
    late = ~(values[1:] > values[:-1]).astype(bool)
    if late.any():
        i = int(np.argmax(late)) + 1
        raise ValueError(f"{name} must be strictly increasing: {name}[{i}] = {values[i]} follows {values[i - 1]}")


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """Return the error for a name that is not among the `known`: it suggests near ones, or lists them all.

    >>> unknown("codebook", "nf5", ["nf4", "fp4"])
    ValueError("no codebook is called 'nf5': did you mean nf4?")
    """
    known = list(known)
    near = difflib.get_close_matches(name.lower(), known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
    return ValueError(f"no {what} is called {name!r}: {hint}")
