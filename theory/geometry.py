r"""Geometry of the error: which components, rows and directions deserve the bits, and what an error does to logits.

Of a weighted error :math:`\sum_i \lambda_i D_i`, :math:`\lambda_i` says how much component i matters and
:math:`\sigma_i^2` how much there is of it. `theory.bit_allocation` does the same with integer bits,
`theory.propagation` follows an error through the layers.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from theory import arithmetic
from theory.arithmetic import BALL, Number, elementwise, guarded, total
from theory.bit_allocation import integer_allocation as integer_allocation
from theory.domain import COUNT, NONNEGATIVE, POSITIVE, Domain, accept
from theory.units import from_nats, to_nats


class WaterFilling(NamedTuple):
    """Reverse water-filling: the level, and what each component gets.

    Attributes
    ----------
    theta : number
        Water level, in the unit of the weighted distortion of one weight.
    distortions, rates : array of shape (components,)
        Distortion in the unit of the variances, and bits, per weight of each component.
    distortion, rate : number
        Totals over all weights: :math:`\\sum c_i\\lambda_i D_i`, and bits.
    """

    theta: Any
    distortions: Any
    rates: Any
    distortion: Any
    rate: Any


def _level(w: Any, c: Any, distortion: Any, rate: Any) -> Any:
    r"""The water level over the importances w, exactly.

    The distortion :math:`\sum c\min(\theta, w)` is the least, over sets A of the largest w, of :math:`\theta c(A)`
    plus what is outside A; the rate is the greatest of :math:`\tfrac12\sum_A c\ln(w/\theta)`. So the level that meets
    the target is the largest of those that each A alone would ask for.
    """
    xp = arithmetic.of(w)
    order = np.argsort(w)
    w, c = w[order], c[order]
    inside = np.cumsum(c[::-1])[::-1]
    largest = np.max if xp.name == "float" else functools.partial(functools.reduce, xp.maximum)
    if distortion is not None:
        return largest((distortion - (np.cumsum(c * w) - c * w)) / inside)
    return xp.exp(largest((np.cumsum((c * xp.log(w))[::-1])[::-1] - 2 * rate) / inside))


def _ball_level(w: Any, c: Any, distortion: Any, rate: Any) -> Any:
    """The level falls in the importances at a given distortion, rises at a given rate: their ends enclose it."""
    lower, upper = (elementwise(lambda x, end=end: getattr(x, end)())(w) for end in ("lower", "upper"))
    if distortion is not None:
        return _level(upper, c, distortion.lower(), None).union(_level(lower, c, distortion.upper(), None))
    return _level(lower, c, None, rate.upper()).union(_level(upper, c, None, rate.lower()))


@guarded(32)
def reverse_waterfilling(
    variances: Number,
    weights: Number | None = None,
    counts: Any = None,
    *,
    theta: Number | None = None,
    distortion: Number | None = None,
    rate: Number | None = None,
) -> WaterFilling:
    r"""Distortions and rates of independent Gaussian components with the least weighted distortion at their rate.

    .. math:: D_i = \min(\theta/\lambda_i, \sigma_i^2), \qquad R_i = \tfrac12\log_2(\sigma_i^2/D_i)

    Parameters
    ----------
    variances : array of shape (components,)
        :math:`\sigma_i^2` > 0.
    weights : array of shape (components,), optional
        :math:`\lambda_i` > 0; 1 if not given.
    counts : int array of shape (components,), optional
        How many weights share a component's numbers, >= 1; 1 if not given.
    theta, distortion, rate : number
        Exactly one: the water level > 0; or the total weighted distortion, in (0, :math:`\sum c\lambda\sigma^2`]; or
        the total rate in bits, >= 0.

    Returns
    -------
    WaterFilling

    Raises
    ------
    ValueError
        If an argument is outside its domain, the shapes disagree, or not exactly one target is given.

    Notes
    -----
    The level is found by sorting, in closed form: float64, mpmath or ball (which encloses it). It is optimal for
    Gaussian components; for others of the same variances it is what a code made for Gaussian ones reaches.

    References: [CoverThomas2006, sec. 10.3.3].

    Examples
    --------
    >>> found = reverse_waterfilling([4.0, 1.0, 0.25], distortion=1.25)
    >>> float(found.theta), found.rates.tolist(), float(found.rate)
    (0.5, [1.5, 0.5, 0.0], 2.0)
    """
    if sum(target is not None for target in (theta, distortion, rate)) != 1:
        raise ValueError("give exactly one of theta, distortion and rate")
    size = np.shape(variances)
    ones = np.ones(size)
    target = next(x for x in (theta, distortion, rate) if x is not None)
    xp, variances, weights, target = accept(
        variances=(variances, POSITIVE),
        weights=(ones if weights is None else weights, POSITIVE),
        target=(target, NONNEGATIVE if rate is not None else POSITIVE),
    )
    _, c = accept(counts=(ones if counts is None else counts, COUNT))
    if len(size) != 1 or not size[0] or weights.shape != size or c.shape != size:
        raise ValueError(f"variances, weights and counts must be 1-D, alike and not empty: {size}, "
                         f"{weights.shape}, {c.shape}")  # fmt: skip
    if xp.name == "sympy":
        raise TypeError("reverse_waterfilling compares numbers: give floats, mpf or arb")
    c, importance = xp.number(c), weights * variances
    if theta is None:
        if distortion is not None:
            accept(distortion=(distortion, Domain(0, total(c * importance), high_open=False)))
        find = _ball_level if xp is BALL else _level
        theta = find(importance, c, None if distortion is None else target, None if rate is None else to_nats(target))
    else:
        theta = target
    excess = xp.maximum(importance / theta, xp.number(1))
    rates = from_nats(xp.log(excess) / 2)
    return WaterFilling(theta, variances / excess, rates, total(c * importance / excess), total(c * rates))


def _mean_gap(name: str, values: Any, counts: Any, base: float) -> Any:
    """Half of the logarithm of the arithmetic over the geometric mean, over the last axis."""
    xp, values = accept(**{name: (values, POSITIVE)})
    if not np.ndim(values) or not np.shape(values)[-1]:
        raise ValueError(f"{name} must have at least one axis, and a value on the last")
    _, c = accept(counts=(np.ones(np.shape(values)[-1]) if counts is None else counts, COUNT))
    if np.shape(c)[-1:] != np.shape(values)[-1:]:
        raise ValueError(f"counts has shape {np.shape(c)}, {name} {np.shape(values)}: the last axes must agree")
    c = xp.number(c)
    n = total(c)
    return from_nats((xp.log(total(c * values) / n) - total(c * xp.log(values)) / n) / 2, base)


@guarded(32)
def allocation_gain(weights: Number, counts: Any = None, base: float = 2) -> Number:
    r"""Rate that the best allocation saves over equal distortion for all weights, in bits per weight.

    .. math:: \tfrac12\log_2\frac{\operatorname{AM}(\lambda)}{\operatorname{GM}(\lambda)} \ge 0

    Parameters
    ----------
    weights : array of shape (..., components)
        :math:`\lambda_i` > 0, how much the squared error of each component matters.
    counts : int array of shape (components,), optional
        Weights that share a component's number, >= 1; 1 if not given.
    base : float
        Base of the logarithm.

    Returns
    -------
    number or array
        Over the last axis. Any arithmetic; float64 to about 1e-15 absolutely.

    Notes
    -----
    Valid while every component is active, :math:`\theta \le \min_i \lambda_i\sigma_i^2`; at lower rates the gain is
    what `reverse_waterfilling` says.

    Examples
    --------
    >>> round(float(allocation_gain([1.0, 16.0])), 6), round(float(allocation_gain([1.0, 4.0])), 6)
    (0.543731, 0.160964)
    """
    return _mean_gap("weights", weights, counts, base)


@guarded(32)
def variance_gain(variances: Number, counts: Any = None, base: float = 2) -> Number:
    r"""Rate that knowing the variance of each row saves, in bits per weight, at equal distortion of all weights.

    .. math:: \tfrac12\log_2\frac{\operatorname{AM}(v)}{\operatorname{GM}(v)} \ge 0

    Against a code made for one Gaussian of the mean variance. Valid while the distortion is below every variance.
    Parameters and errors as `allocation_gain`, with `variances` for `weights`.

    >>> round(float(variance_gain([1.0, 4.0])), 6)
    0.160964
    """
    return _mean_gap("variances", variances, counts, base)


@guarded(16)
def predicted_logits_mse(traces: Number, mses: Number, vocabulary: int) -> Number:
    r"""Mean squared error of the logits to first order, in logits squared.

    .. math:: \sum_l m_l \operatorname{tr}(G_l)\,/\,V

    Parameters
    ----------
    traces : array of shape (..., tensors)
        :math:`\operatorname{tr}(G_l)`, >= 0, with :math:`G_l = E J_l'J_l`, J the Jacobian of one token's logits.
    mses : number or array of shape (..., tensors)
        Mean squared error of each tensor's weights, >= 0.
    vocabulary : int
        V, logits of a token.

    Notes
    -----
    For errors of zero mean, uncorrelated within and between tensors and of one variance in a tensor, and small.

    >>> float(predicted_logits_mse([1e6, 2e6], [1e-6, 2e-6], 100))
    0.05
    """
    _, traces, mses, vocabulary = accept(
        traces=(traces, NONNEGATIVE), mses=(mses, NONNEGATIVE), vocabulary=(vocabulary, COUNT)
    )
    return total(traces * mses) / vocabulary


@guarded(16)
def predicted_amplification(traces: Number, vocabulary: int, mses: Number = 1.0, counts: Any = 1) -> Number:
    r"""Mean squared error of the logits over that of the weights, to first order; logits squared per weight squared.

    .. math:: \frac{\sum_l m_l \operatorname{tr}(G_l)/V}{\sum_l n_l m_l/\sum_l n_l}
              = \frac{\operatorname{tr} G}{V} \quad\text{where all } m_l \text{ are equal}

    Parameters
    ----------
    traces, mses, vocabulary
        As for `predicted_logits_mse`; `mses` > 0.
    counts : int or array of shape (..., tensors)
        Weights of each tensor, :math:`n_l`: the denominator is the mean over all weights that are quantized.

    Examples
    --------
    >>> float(predicted_amplification([1e6, 2e6], 100))
    30000.0
    """
    _, traces, mses, counts = accept(traces=(traces, NONNEGATIVE), mses=(mses, POSITIVE), counts=(counts, COUNT))
    n, m = (x + 0 * traces for x in (counts, mses))
    return predicted_logits_mse(traces, mses, vocabulary) * total(n) / total(n * m)


@guarded(16)
def condition_bound(mean_input: Number, smallest: Number) -> Number:
    r"""Lower bound on the condition number of a linear layer's error metric, from the mean of its input; no unit.

    .. math:: \kappa(E\,xx') \ge |E x|^2/\lambda_{\min}

    The metric is :math:`G = E\,xx' \otimes I`, and :math:`u'E[xx']u \ge (u'Ex)^2` for the unit vector u along E x.

    Parameters
    ----------
    mean_input : number or array
        :math:`|E x|^2`, the squared norm of the mean, >= 0.
    smallest : number or array
        Smallest eigenvalue of :math:`E\,xx'`, > 0.

    >>> float(condition_bound(4.0, 0.5))
    8.0
    """
    _, mean_input, smallest = accept(mean_input=(mean_input, NONNEGATIVE), smallest=(smallest, POSITIVE))
    return mean_input / smallest
