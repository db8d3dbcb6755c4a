r"""R(D) at every distortion, in certified brackets, from brackets at a few.

.. math:: R(D') - \tfrac12\log_2\frac{D}{D'} \le R(D) \le R(D') \qquad 0 < D' \le D

for every source of finite variance. Proof of the left side. Let Y reach R(D), and Z = Y + a (X - Y + W) with
a = 1 - D'/D and W ~ N(0, D'/a) independent of both. Then E (X - Z)**2 = (1 - a)**2 D + a D' = D', and

.. math:: R(D') \le I(X;Z) \le I(X;Y) + I(X;Z|Y) \le R(D) + \tfrac12\log_2\bigl(1 + \tfrac{a D}{D'}\bigr),

where the last logarithm is that of D/D'. So R(D) + 1/2 log2 D never falls as D grows: where Shannon's lower bound is
nearly tight it hardly rises, and a few points say all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from theory.arithmetic import Number
from theory.domain import NONNEGATIVE, POSITIVE, accept
from theory.rate_distortion import RateDistortion
from theory.sources import Source
from theory.units import from_nats


def brackets(source: Source, points: Sequence[RateDistortion], D: Number) -> tuple[np.ndarray, np.ndarray]:
    """Bracket R at each distortion by the points that are solved, the variance and Shannon's lower bound.

    Parameters
    ----------
    source : Source
        float64.
    points : sequence of RateDistortion
        Of this source, each solved for a distortion (`theory.rate_distortion.solve`, `curve`), in any order.
    D : float or array
        Mean squared error, > 0, in units of the source squared.

    Returns
    -------
    lower, upper : arrays of the shape of D
        In bits; 0 from the variance on.

    Raises
    ------
    ValueError
        If a distortion is not positive.

    Notes
    -----
    Between neighbours the bracket is as wide as R + 1/2 log2 D rises from one to the other, and theirs.

    Examples
    --------
    >>> from theory.rate_distortion import curve
    >>> from theory.sources import GGD
    >>> law = GGD(1.0)
    >>> lower, upper = brackets(law, curve(law, [0.01, 0.1]), [0.003, 0.05])
    >>> (upper - lower < 0.01).tolist()
    [True, True]
    """
    _, D = accept(D=(np.asarray(D, dtype=np.float64), POSITIVE))
    variance = float(source.variance)
    at = np.array([*(p.D for p in points), variance])
    low, high = np.array([[p.lower for p in points] + [0.0], [p.upper for p in points] + [0.0]])
    coarser = at >= D[..., None]  # than asked for: less rate does for them
    refined = np.maximum(from_nats(np.log(at / D[..., None])) / 2, 0.0)
    spared = np.maximum(from_nats(np.log(D[..., None] / at)) / 2, 0.0)
    lower = np.maximum(np.where(coarser, low, low - spared).max(-1), 0.0)
    upper = np.where(coarser, high + refined, high).min(-1)
    if source.continuous:
        shannon = source.entropy() - from_nats((1 + np.log(2 * math.pi * D)) / 2)
        lower = np.where(variance > D, np.maximum(lower, shannon), lower)
    return lower, upper


def of_cells(lower: float, upper: float, D: float, displacement: float) -> tuple[float, float]:
    r"""Bracket R(D) of a source by that of the means of its cells, such as the buckets of a histogram.

    With :math:`\bar X = E[X|\text{cell}]` and :math:`\delta^2 = E(X - \bar X)^2`,

    .. math:: \bar R(D) - \log_2(1 + \delta/\sqrt D) \le R(D) \le \bar R(D) + \tfrac12\log_2\frac{D}{D - \delta^2}

    Parameters
    ----------
    lower, upper : float
        Bracket of :math:`\bar R(D)`, in bits.
    D : float
        Mean squared error, > 0.
    displacement : float
        :math:`\delta \ge 0`, in the unit of the source: `theory.sources.Histogram.displacement`.

    Returns
    -------
    lower, upper : float
        In bits; `upper` is infinite for :math:`D \le \delta^2`.

    Raises
    ------
    ValueError
        If `D` or the displacement is outside its domain.

    Notes
    -----
    Left: a code for X is one for its cells' means, of distortion at most :math:`(\sqrt D + \delta)^2` by Minkowski's
    inequality. Right: of a code for the means, the distortion from X is greater by :math:`\delta^2`, and no more
    information is needed. Both distortions are brought to D as this module's first line says.

    Examples
    --------
    >>> of_cells(3.0, 3.0, 0.01, 0.0)
    (3.0, 3.0)
    >>> low, high = of_cells(3.0, 3.0, 0.01, 0.001)
    >>> round(low, 6), round(high, 6)
    (2.985645, 3.000072)
    """
    _, D, displacement = accept(D=(D, POSITIVE), displacement=(displacement, NONNEGATIVE))
    finer = float(D) - float(displacement) ** 2
    above = float(from_nats(math.log(D / finer) / 2)) if finer > 0 else math.inf
    return max(lower - float(from_nats(math.log1p(displacement / math.sqrt(D)))), 0.0), upper + above
