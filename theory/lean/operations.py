"""The operations of a Lean term on rationals, balls and, on a contour, complex balls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flint import acb, arb, fmpq


class Undefined(ArithmeticError):
    """A ball that meets a singularity, or a term without a value: nothing can be decided with it."""


def real(x: Any) -> Any:
    """A ball of a rational or an index."""
    return x if isinstance(x, arb | acb) else arb(x)


def every(verdicts: Iterable[bool | None]) -> bool | None:
    """Whether all hold: False as soon as one is False, else None if one is undecided."""
    found = list(verdicts)
    return False if False in found else None if None in found else True


def decide(relation: str, a: Any, b: Any) -> bool | None:
    """Compare two values: True and False are certain; an equality of balls that overlap is None."""
    if isinstance(a, int | fmpq) and isinstance(b, int | fmpq):
        a, b = fmpq(a), fmpq(b)
        return bool({"eq": a == b, "le": a <= b, "lt": a < b}[relation])
    a, b = real(a), real(b)
    if not (a.is_finite() and b.is_finite()):
        return None
    if relation == "eq":
        return None if a.overlaps(b) else False
    if relation == "le":
        return True if a <= b else False if a > b else None
    return True if a < b else False if a >= b else None


def number(x: Any) -> Any:
    """A natural number as a rational; a function is refused."""
    if isinstance(x, int):
        return fmpq(x)
    if callable(x) or isinstance(x, list):
        raise Undefined("a function where a number belongs")
    return x


def applied(value: Any, args: list[Any]) -> Any:
    """A function of its arguments, a family or a table at its indices."""
    for a in args:
        if callable(value):
            value = value(a)
            continue
        index = int(a.p) if isinstance(a, fmpq) else a
        if not isinstance(value, list) or not 0 <= index < len(value):
            raise Undefined(f"no entry {index}")
        value = value[index]
    return value


def arithmetic(head: str, a: Any, b: Any) -> Any:
    """Sum, difference, product or quotient; a / 0 = 0."""
    if isinstance(a, int) and isinstance(b, int) and head in ("sub", "div"):
        raise Undefined("subtraction and division of natural numbers are not in the dialect")
    a, b = number(a), number(b)
    if head == "add":
        return a + b
    if head == "sub":
        return a - b
    if head == "mul":
        return a * b
    if b == 0:
        return fmpq(0)
    if isinstance(b, arb) and b.contains(0):
        raise Undefined("division by a ball around 0")
    return a / b


def _positive(z: acb) -> None:
    if not z.real > 0 and (z.imag.contains(0) or not z.is_finite()):
        raise Undefined("a ball across the branch cut")


def power(a: Any, e: Any) -> Any:
    """``Real.rpow``."""
    if isinstance(e, fmpq | int) and fmpq(e).q == 1 and isinstance(a, fmpq | arb | acb):
        exponent = int(fmpq(e).p)
        if exponent >= 0 or a != 0:
            return a**exponent
        return fmpq(0)
    if isinstance(a, acb):
        _positive(a)
        return (real(e) * a.log()).exp()
    a, e = real(a), real(e)
    if a == 0:
        if isinstance(e, arb) and e.contains(0):
            raise Undefined("0 to a power around 0")
        return fmpq(0)
    if a < 0:
        return abs(a) ** e * (e * arb.pi()).cos()
    if not a > 0:
        raise Undefined("a power of a ball around 0")
    return a**e


def modulus(x: Any) -> Any:
    """|x|, on a contour the analytic function that it is on that side of 0."""
    if not isinstance(x, acb):
        return abs(x)
    if x.real > 0:
        return x
    if x.real < 0:
        return -x
    raise Undefined("|x| across 0 is not analytic")


def _log(x: Any) -> Any:
    if isinstance(x, acb):
        _positive(x)
        return x.log()
    x = abs(real(x))
    if x == 0:
        return fmpq(0)
    if x.contains(0):
        raise Undefined("the logarithm of a ball around 0")
    return x.log()


def _gamma(x: Any) -> Any:
    if isinstance(x, fmpq) and x.q == 1 and x <= 0:
        return fmpq(0)
    return real(x).gamma()


def _sqrt(x: Any) -> Any:
    x = real(x)
    return fmpq(0) if x <= 0 else x.sqrt()


def _round(x: Any) -> Any:
    if not isinstance(x, fmpq):
        raise Undefined("rounding of a ball")
    return (x + fmpq(1, 2)).floor()


def largest(values: Any) -> Any:
    """The largest of some values."""
    return -smallest([-number(v) for v in values])


def smallest(values: Any) -> Any:
    """The smallest of some values."""
    best, *rest = map(number, values)
    for v in rest:
        best = min(best, v) if isinstance(best, fmpq) and isinstance(v, fmpq) else real(best).min(real(v))
    return best


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Real.log": _log, "Real.exp": lambda x: real(x).exp(), "Real.sqrt": _sqrt, "Real.Gamma": _gamma,
    "min": lambda *x: smallest(x), "max": lambda *x: largest(x), "round": _round,
}  # fmt: skip
