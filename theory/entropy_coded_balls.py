r"""Rate and distortion of the uniform-threshold quantizer with all its infinitely many cells, in ball arithmetic.

Cells of width :math:`\Delta`, one of them centred on 0, are summed one by one out to T. Of what lies above T, with
:math:`q = P(X > T), e = \int_T^\infty x\,p\,dx`, the distortion is at most :math:`q\Delta^2/4`, for a variable in an
interval has at most that variance. Its part of the entropy, :math:`-\sum p_k\ln p_k`, is
:math:`-q\ln q + q H(J)` with J = 1, 2, ... the number of the cell above T given X > T. As
:math:`J \le 1 + (X - T)/\Delta`, its mean m is at most :math:`1 + e/(q\Delta)`; no law on 1, 2, ... of mean m has
more entropy than the geometric, :math:`m\ln m - (m-1)\ln(m-1) \le 1 + \ln m` [CoverThomas2006]; hence

.. math:: 0 \le -\sum_{k: t_{k-1} \ge T} p_k \ln p_k \le -q\ln q + q\bigl(1 + \ln(1 + e/(q\Delta))\bigr),

which increases in q < 1/e and in e, so that upper bounds may stand for them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from flint import arb, ctx

from theory.arithmetic import BALL, total
from theory.codebook_design import Quantizer
from theory.sources import GGD
from theory.units import from_nats

CERTIFICATE = "entropy and distortion of all the infinitely many cells"
_MOST_CELLS = 100_000


def at_step(source: GGD, step: Any) -> Quantizer:
    """Enclose rate and distortion for cells of width `step`; the levels listed are those that were summed."""
    step = BALL.number(step)
    with ctx.workprec(_precision(source, step)):
        return _summed(source, step)


def at_rate(source: GGD, rate: Any, step: float) -> Quantizer:
    """Enclose a step near `step` whose cells have exactly the entropy `rate`, in bits, with its distortion.

    The entropy is a continuous function of the step: its sign change less `rate` between two steps, decided in balls,
    shows that one between them has that rate. That no other step has is not claimed.

    Raises ArithmeticError if the sign change cannot be shown.
    """
    rate = BALL.number(rate)
    with ctx.workprec(_precision(source, arb(step))):

        def excess(step: arb) -> arb:
            return _summed(source, step).rate - rate

        def size(x: arb) -> float:
            return float(x.abs_upper())

        behind, here = arb(step) * (1 + arb(2) ** -30), arb(step)
        misses = [excess(behind), excess(here)]
        slope = (misses[1] - misses[0]).mid() / (here - behind)
        while size(misses[1]) < size(misses[0]) / 2 and not misses[1].contains(0):  # the secant method
            slope = (misses[1] - misses[0]).mid() / (here - behind)
            behind, here = here, (here - misses[1] / slope).mid()
            misses = [misses[1], excess(here)]
        least = abs(misses[1] / slope).upper()
        for width in (least * 4**k for k in range(1, 6)):
            if width < here and excess(here - width) > 0 > excess(here + width):
                found = _summed(source, here + arb(0, width.upper()))
                break
        else:
            raise ArithmeticError(f"no step certified for {rate} bits: are the balls of beta and sigma too wide?")
    return Quantizer(found.levels, found.thresholds, +found.mse, +rate, certificate=found.certificate)


def _precision(source: GGD, step: arb) -> int:
    """Bits for cells of probability 2**-prec to have prec of their own, at this step."""
    return 2 * ctx.prec + 32 + 4 * max(0, math.ceil(-math.log2(float(step / source.sigma))))


def _summed(source: GGD, step: arb) -> Quantizer:
    beta, fraction = float(source.beta), float(step / source.alpha)
    reach = (ctx.prec / 2 + 16) * math.log(2)  # where the density has lost half of the bits: its tail, a power more
    reach += max(0.0, 2 / beta - 1) * math.log(reach)
    cells = math.ceil(reach ** (1 / beta) / fraction)
    if cells > _MOST_CELLS:
        least = float(step) * cells / _MOST_CELLS
        raise ValueError(f"step = {float(step)} makes over {_MOST_CELLS} cells a side: give at least {least:.3g}")
    t = np.array([step * (2 * k + 1) / 2 for k in range(cells + 1)])
    m0, m1, m2 = (source.partial_moment(k, np.array([arb(0), *t[:-1]]), t) for k in range(3))
    q, e = (source.partial_moment(k, t[-1], arb.pos_inf()).upper() for k in (0, 1))
    left_out = -q * q.log() + q * (1 + (1 + e / (q * step)).log())
    p, levels = m0[1:], m1[1:] / m0[1:]
    entropy = total(-p * np.array([v.log() for v in p])) + arb(0).union(left_out.upper())
    error = m2[0] + total(m2[1:] - m1[1:] * levels) + arb(0).union((q * step**2 / 4).upper())
    middle = 2 * m0[0]
    levels = np.array([*-levels[::-1], arb(0), *levels])
    # The thresholds that end the last cells are not among those between two levels.
    thresholds = np.array([*-t[:-1][::-1], *t[:-1]])
    return Quantizer(
        levels, thresholds, 2 * error, from_nats(2 * entropy - middle * middle.log()), certificate=CERTIFICATE
    )
