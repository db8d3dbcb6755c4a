"""Declarations outside the dialect, each with a numeric check of what it says.

No grammar reads these statements, so each is held by its hash: whoever edits one must look at its check again.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from flint import arb, fmpq

from theory import codebooks
from theory.lean.evaluator import Evaluator
from theory.lean.operations import real
from theory.lean.parser import expression

Check = Callable[[Evaluator, random.Random], Iterator[bool | None]]
"""Yields, for one example after another, whether the statement holds there (None: the balls do not decide)."""


def _verdict(left: Any, right: Any) -> bool | None:
    left, right = real(left), real(right)
    return True if left <= right else False if left > right else None


def _weights(rng: random.Random, m: int) -> list[fmpq]:
    draws = [rng.randint(1, 9) for _ in range(m)]
    return [fmpq(d, sum(draws)) for d in draws]


def _mean(p: list[fmpq], values: list[Any]) -> Any:
    return sum((w * v for w, v in zip(p, values, strict=True)), fmpq(0))


def _largest_reproduced(_: Evaluator, rng: random.Random) -> Iterator[bool | None]:
    for book in (codebooks.NF4, codebooks.FP4):
        for sign in (1, -1):
            S = Fraction(rng.randint(1, 99), 8)
            x = sign * S
            nearest = min(map(Fraction, book.levels.tolist()), key=lambda level, y=x / S: abs(level - y))  # type: ignore[misc]
            yield S * nearest == x


def _jensen(functions: tuple[Callable[[arb], arb], ...], convex: bool, top: int) -> Check:
    def check(_: Evaluator, rng: random.Random) -> Iterator[bool | None]:
        for g in functions:
            p = _weights(rng, 3)
            t = [fmpq(rng.randint(0, 15) * top, 16) for _ in p]
            of_mean, mean_of = g(arb(_mean(p, t))), _mean(p, [g(arb(v)) for v in t])
            yield _verdict(of_mean, mean_of) if convex else _verdict(mean_of, of_mean)

    return check


def _exists_level_near(_: Evaluator, rng: random.Random) -> Iterator[bool | None]:
    for _i in range(8):
        levels = [Fraction(0)]
        for _j in range(rng.randint(1, 6)):
            levels.append(levels[-1] + Fraction(rng.randint(-4, 16), 4))
        if levels[-1] < 0:
            continue
        delta = max([abs(b - a) for a, b in itertools.pairwise(levels)]) / 2
        x = levels[-1] * Fraction(rng.randint(0, 8), 8)
        yield any(abs(x - level) <= delta for level in levels)


def _integrable(*terms: str) -> Check:
    """The integral of the modulus of each term is enclosed, and finite."""

    def check(evaluator: Evaluator, rng: random.Random) -> Iterator[bool | None]:
        for term in terms:
            env = {"k": fmpq(rng.randint(-2, 8), 4), "beta": fmpq(3, 2), "sigma": fmpq(rng.randint(2, 8), 4)}
            yield real(evaluator.value(expression(f"∫ x : ℝ, {term}"), env)).is_finite()

    return check


def _log_pdf_concave(evaluator: Evaluator, rng: random.Random) -> Iterator[bool | None]:
    log_pdf = expression("Real.log (pdf x beta sigma)")
    for beta in (fmpq(5, 4), fmpq(2), fmpq(7)):
        (x, y), (a, b) = (fmpq(rng.randint(-24, 24), 8) for _ in "xy"), _weights(rng, 2)

        def at(z: fmpq, beta: fmpq = beta) -> Any:
            return evaluator.value(log_pdf, {"x": z, "beta": beta, "sigma": fmpq(1)})

        yield _verdict(a * at(x) + b * at(y), at(a * x + b * y))


def _gap(bound: str, noise: str) -> Check:
    """Entropies h(t) = h(0) + c/2 ln(1 + t J0), c <= 1: de Bruijn's and Stam's hypotheses hold for them."""

    def check(evaluator: Evaluator, rng: random.Random) -> Iterator[bool | None]:
        for c in (fmpq(1), fmpq(3, 4), fmpq(1, 2)):
            env: dict[str, Any] = {"J0": fmpq(rng.randint(4, 24), 8), "sigma": fmpq(2), "h0": fmpq(1), "c": c}
            env["D"] = fmpq(rng.randint(1, 7), 2)
            env["t"] = evaluator.value(expression(noise), env)
            gain = evaluator.value(expression("c * Real.log (1 + t * J0) / 2"), env)
            env["h"] = env["h0"] + gain
            rate = "h - (1 + Real.log (2 * Real.pi * t)) / 2"
            floor = "h0 - (1 + Real.log (2 * Real.pi * D)) / 2"
            left = gain if bound == "" else evaluator.value(expression(f"{rate} - ({floor})"), env)
            # Where c = 1 both sides are equal: the ball is asked about a bound that is larger by 2**-90.
            right = evaluator.value(expression(bound or "Real.log (1 + t * J0) / 2"), env)
            yield _verdict(left, right + arb(2) ** -90)

    return check


def _mean_sq_le_eigenvalue(_: Evaluator, rng: random.Random) -> Iterator[bool | None]:
    for _i in range(8):
        p = _weights(rng, 3)
        x = [[fmpq(rng.randint(-8, 8), 4) for _ in range(2)] for _ in p]
        a, b, d = (_mean(p, [v[i] * v[j] for v in x]) for i, j in ((0, 0), (0, 1), (1, 1)))
        largest = (arb(a + d) + arb((a - d) ** 2 + 4 * b**2).sqrt()) / 2
        yield _verdict(sum((_mean(p, [v[i] for v in x]) ** 2 for i in range(2)), fmpq(0)), largest)


_CONVEX = (lambda u: -(1 - u).log(), lambda u: u**4, lambda u: 1 / (1 - u))
_CONCAVE = (lambda t: t.sqrt(), lambda t: 1 - (-t).exp(), lambda t: t.log1p())

OUTSIDE: dict[str, tuple[str, Check]] = {
    "largest_reproduced": ("f9d88d7e9de5", _largest_reproduced),
    "jensen_lower": ("1de03a69d355", _jensen(_CONVEX, True, 1)),
    "jensen_upper": ("5730dc62bb43", _jensen(_CONCAVE, False, 8)),
    "exists_level_near": ("038fe45ba397", _exists_level_near),
    "integrable_abs_rpow_mul_pdf": ("74cca9fa5272", _integrable("|x| ^ (k : ℝ) * pdf x beta sigma")),
    "integrable_pdf": ("c476f0d56c32", _integrable("pdf x beta sigma")),
    # |ln p| <= ln p(0)'s modulus plus a power of |x|, so that the modulus of the product is under this one.
    "integrable_pdf_mul_log_pdf": ("f762b9af5c18", _integrable("(1 + |x| ^ (beta : ℝ)) * pdf x beta sigma")),
    "log_pdf_concave": ("10cba3dd86ce", _log_pdf_concave),
    "entropy_gain": ("9bb0fcef2e1a", _gap("", "D")),
    "gap_refined": ("f53cf59f2a37", _gap("Real.log (1 + D * (J0 - 1 / sigma ^ 2)) / 2", "D / (1 - D / sigma ^ 2)")),
    "gap_log": ("13ebb865cf2f", _gap("Real.log (1 + D * J0) / 2", "D")),
    "mean_sq_le_eigenvalue": ("bb77c04cb149", _mean_sq_le_eigenvalue),
}
