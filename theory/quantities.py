"""What `theory` computes, to how many digits, and how each is known: the README's table is generated from here.

Every entry is one public call at one point, made in each arithmetic that it supports; the digits are counted anew
whenever the table is made. Where the call answers in balls, the float64 result is held against the ball; where it
answers in mpmath only, against 50 digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from flint import arb, ctx
from mpmath import mp

from theory import (
    block_scaling,
    clipping,
    geometry,
    ggd,
    lattices,
    mismatch,
    rate_distortion,
    scalar,
    scale_formats,
    shannon,
)
from theory.arithmetic import BALL, FLOAT, MPMATH, midpoint
from theory.codebooks import NF4
from theory.sources import GGD

_BITS, _DIGITS = 128, 50
_FLOAT_DIGITS = 15.95  # -log10 of the rounding unit: more cannot be asked of a float64


@dataclass(frozen=True)
class Quantity:
    """One public result.

    Attributes
    ----------
    name : str
        The public call, without its module's package.
    what : str
        With unit and point.
    call : callable
        Of an arithmetic (`theory.arithmetic`): the number there.
    known : str
        How the digits are known.
    arithmetics : tuple of str
        Those in which `call` answers.
    """

    name: str
    what: str
    call: Callable[[SimpleNamespace], Any]
    known: str
    arithmetics: tuple[str, ...] = ("float", "mpmath", "ball")

    def value(self) -> float:
        """In float64."""
        return float(self.call(FLOAT))

    def ball(self) -> arb | None:
        """At 128 bits."""
        if "ball" not in self.arithmetics:
            return None
        saved = ctx.prec
        try:
            ctx.prec = _BITS
            return self.call(BALL)
        finally:
            ctx.prec = saved

    def certified_digits(self) -> int | None:
        """Decimal digits that the ball at 128 bits proves."""
        ball = self.ball()
        return None if ball is None else int(ball.rel_accuracy_bits() * math.log10(2))

    def float_digits(self) -> int | None:
        """Decimal digits of the float64 result that the ball, or 50 digits of mpmath, confirm."""
        with mp.workdps(_DIGITS):
            if (ball := self.ball()) is not None:
                exact = midpoint(ball)
            elif "mpmath" in self.arithmetics:
                exact = self.call(MPMATH)
            else:
                return None
            error = abs((mp.mpf(self.value()) - exact) / exact)
            return int(min(-mp.log10(error), _FLOAT_DIGITS)) if error else int(_FLOAT_DIGITS)


def _g(xp: SimpleNamespace, beta: float = 1.7) -> GGD:
    return GGD(xp.number(beta))


_EVERY = ("float", "mpmath", "ball", "sympy")
_CLOSED = "closed form"
_ENCLOSED = "integral enclosed by the trapezoidal rule's theorem"
_ROOT = "root enclosed by Poincaré-Miranda"
_BRACKET = "certified bracket"

QUANTITIES = (
    Quantity("ggd.pdf(1, beta)", "density", lambda xp: ggd.pdf(1.0, xp.number(1.7)), _CLOSED, _EVERY),
    Quantity("ggd.cdf(1, beta)", "distribution function", lambda xp: ggd.cdf(1.0, xp.number(1.7)), _CLOSED, _EVERY),
    Quantity("ggd.quantile(.999, beta)", "quantile", lambda xp: ggd.quantile(0.999, xp.number(1.7)),
             "root of the incomplete gamma function, interval Newton in balls"),
    Quantity("ggd.kurtosis(beta)", "kurtosis", lambda xp: ggd.kurtosis(xp.number(1.7)), _CLOSED, _EVERY),
    Quantity("ggd.entropy(beta)", "entropy, bits", lambda xp: ggd.entropy(xp.number(1.7)), _CLOSED, _EVERY),
    Quantity("ggd.kl_to_gaussian(beta)", "divergence from the Gaussian, bits",
             lambda xp: ggd.kl_to_gaussian(xp.number(1.7)), _CLOSED, _EVERY),
    Quantity("ggd.fisher_information(beta)", "Fisher information", lambda xp: ggd.fisher_information(xp.number(1.7)),
             _CLOSED, _EVERY),
    Quantity("shannon.lower_bound(source, .01)", "Shannon lower bound, bits",
             lambda xp: shannon.lower_bound(_g(xp), 0.01), _CLOSED, _EVERY),
    Quantity("shannon.gap_fisher_refined(source, .01)", "gap bound (e), bits",
             lambda xp: shannon.gap_fisher_refined(_g(xp), 0.01), _CLOSED, _EVERY),
    Quantity("rate_distortion.solve(source, .01)", "R(D), bits",
             lambda xp: rate_distortion.solve(GGD(1.7), 0.01, tol=1e-9).upper,
             _BRACKET + " of at most 1e-6 bit, 1e-9 on request; `certify=True`: in balls", ("float",)),
    Quantity("scalar.lloyd_max(source, 16)", "least error of 16 levels",
             lambda xp: scalar.lloyd_max(_g(xp), 16).mse, _ROOT),
    Quantity("scalar.uniform(source, 16)", "least error of 16 uniform levels",
             lambda xp: scalar.uniform(_g(xp), 16).mse, "root enclosed by interval Newton"),
    Quantity("scalar.ecsq(source, step=.5)", "entropy of uniform thresholds, bits",
             lambda xp: scalar.ecsq(_g(xp), step=xp.number(0.5)).rate, "sum with its remainder enclosed"),
    Quantity("scalar.optimal_ecsq(source, 4)", "least error at 4 bits of entropy",
             lambda xp: scalar.optimal_ecsq(GGD(1.7), 4.0).mse, "stationary point, residual below 1e-10", ("float",)),
    Quantity("scalar.panter_dite(source)", "limit of N^2 D", lambda xp: scalar.panter_dite(_g(xp)), _CLOSED, _EVERY),
    Quantity("clipping.optimal_clip(source, 4)", "best clip of a 4-bit grid",
             lambda xp: clipping.optimal_clip(_g(xp), 4)[0], "root enclosed by interval Newton"),
    Quantity("block_scaling.absmax_mean(64, source)", "mean of the largest of 64",
             lambda xp: block_scaling.absmax_mean(64, _g(xp)), _ENCLOSED),
    Quantity("block_scaling.mse(NF4, 64, source)", "error of NF4 in blocks of 64",
             lambda xp: block_scaling.mse(NF4, 64, _g(xp)), _ENCLOSED),
    Quantity("block_scaling.mae(NF4, 64, source)", "absolute error of NF4 in blocks of 64",
             lambda xp: block_scaling.mae(NF4, 64, _g(xp)), _ENCLOSED),
    Quantity("block_scaling.order_mse(NF4, 64, 63, source)", "error when the second largest is the scale",
             lambda xp: block_scaling.order_mse(NF4, 64, 63, _g(xp)), _ENCLOSED),
    Quantity("scale_formats.mse(NF4, 64, source, 'bf16')", "error of NF4 with bf16 scales",
             lambda xp: scale_formats.mse(NF4, 64, GGD(1.7), "bf16"), "sum over the scales, quadrature within",
             ("float",)),
    Quantity("mismatch.entropy_coded(source, N)", "rate lost to a Gaussian code, bits",
             lambda xp: mismatch.entropy_coded(_g(xp), GGD(xp.number(2.0))), _CLOSED, _EVERY),
    Quantity("mismatch.bound(source, N, levels)", "Donsker-Varadhan bound on the error of 4 levels",
             lambda xp: mismatch.bound(_g(xp), GGD(2.0), [-1.5, -0.5, 0.5, 1.5], t=0.25).value,
             _CLOSED + " at any t"),
    Quantity("lattices.second_moment('E8')", "second moment of E8",
             lambda xp: lattices.second_moment("E8", xp.number(1)), _CLOSED, _EVERY),
    Quantity("lattices.sphere_bound(24)", "least second moment in 24 dimensions",
             lambda xp: lattices.sphere_bound(xp.number(24)), _CLOSED, _EVERY),
    Quantity("geometry.allocation_gain([1, 4])", "rate that weighting saves, bits",
             lambda xp: geometry.allocation_gain(xp.number(np.array([1.0, 4.0]))), _CLOSED, _EVERY),
    Quantity("geometry.reverse_waterfilling([4, 1, .25], rate=2)", "least error of three components",
             lambda xp: geometry.reverse_waterfilling(xp.number(np.array([4.0, 1.0, 0.25])), rate=2.0).distortion,
             "closed form by sorting"),
)  # fmt: skip
"""In the order of the modules."""


def markdown() -> str:
    """The README's table, made anew (``python -m theory.quantities``): the source is the GGD of beta = 1.7."""
    lines = [
        "| call | what | value | float64 digits | digits proved at 128 bits | how it is known |",
        "|---|---|---|---|---|---|",
    ]
    for q in QUANTITIES:
        digits = ["-" if d is None else str(d) for d in (q.float_digits(), q.certified_digits())]
        lines.append(f"| `{q.name}` | {q.what} | {q.value():.12g} | {digits[0]} | {digits[1]} | {q.known} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
