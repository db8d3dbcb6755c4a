r"""Lines through logarithms against bits, and tests of their slopes: what ``quantgap run slope`` computes.

A point is the logarithm of a mean over texts, and its error is the mean's over the mean. A change of the loss has
either sign, and no logarithm where it is not above 0 by its 95 % interval. Its line ends before the first such width:
beyond it, those that happen to be above 0 again would be picked for their luck. The divergence, the squared error of
the logits and that of the weights are positive, and all stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from empirics.experiments.degradation import Degradation
from empirics.experiments.slope.notebook import SLOPE as AS_WRITTEN
from empirics.regression import Line, homogeneous, line, parallel
from theory.slopes import SHANNON

MEASURED = ("loss_change", "kl_bits", "logits_mse")
QUANTITIES = (*MEASURED, "weight_mse")
ALL = "all"
"""Every language together."""

INTEGERS, SMALL = "integers", "integers from 3 bits"
"""Lines through blocks of 64; the second where 2 bits, at no high rate in any sense, are left out."""

MARGIN = 0.1 * abs(SHANNON)
"""Slopes that differ by less are called equal: a tenth of Shannon's."""

WRITTEN, FITTED, AS_WEIGHTS = "H4 as written", "absmax, fitted laws", "as the weight MSE"
"""Hypotheses on a slope, beside Shannon's: of the notebook; of theory for these widths; of what is measured."""

LEVEL = 0.05
TEXTS_A_POINT = 5
"""A covariance of k points is trusted, for a weighted fit, if it comes of 5 k texts."""


class Points(NamedTuple):
    """Logarithms y of configurations that have one, by name, and their nominal bits.

    `moves`, of shape (points, texts), is what each text moves a logarithm by; `left_out` names the others; `texts` is
    how many there are.
    """

    names: list[str]
    bits: np.ndarray
    y: np.ndarray
    moves: np.ndarray
    left_out: list[str]
    texts: int


def logarithms(
    found: Mapping[str, Degradation], bits: Mapping[str, float], quantity: str, language: str | None = None
) -> Points:
    """ln of a quantity, of each configuration that has nominal bits in `bits`."""
    values: dict[str, float] = {}
    moves: dict[str, np.ndarray] = {}
    end, texts = math.inf, 0
    for name in bits:
        one = found[name]
        if quantity == "weight_mse":
            values[name], moves[name] = one.weight_mse, np.zeros(len(one.languages))
            continue
        mean = one.mean(quantity, language)
        values[name], moves[name], texts = mean.value, one.influence(quantity, language), mean.clusters
        if quantity == "loss_change" and not mean.interval()[0] > 0:
            end = min(end, bits[name])
    names = [name for name in bits if values[name] > 0 and bits[name] < end]
    return Points(
        names,
        np.array([bits[name] for name in names], dtype=np.float64),
        np.log([values[name] for name in names]),
        np.array([moves[name] / values[name] for name in names]),
        [name for name in bits if name not in names],
        texts,
    )


def fitted(points: Points, bits: Sequence[float]) -> dict[str, Any]:
    """The line through the points at these bits: Student's error of its slope, that over texts, and a weighted fit.

    `text_error` says how other texts would move the slope of the plain fit. The weighted one has the covariance of
    the points, and a chi-squared that is large if they do not lie on a line.
    """
    row = dict.fromkeys(
        ("slope", "slope_error", "low", "high", "r_squared", "text_error", "weighted_slope", "weighted_slope_error",
         "chi_squared", "chi_squared_p"), math.nan,
    )  # fmt: skip
    row |= {"n": len(bits), "left_out": len(points.left_out), "texts": points.texts}
    if len(set(bits)) < 2:
        return row
    fit = line(bits, points.y)
    row |= {"slope": fit.slope, "text_error": text_error(points, bits)} | _student(fit)
    above = np.sum((points.y - points.y.mean()) ** 2)
    row["r_squared"] = 1 - float(np.sum((points.y - fit.at(bits)) ** 2) / above) if above else math.nan
    covariance = points.moves @ points.moves.T
    if covariance.any() and points.texts >= TEXTS_A_POINT * len(bits):
        weighted = line(bits, points.y, errors=covariance)
        assert weighted.parametric
        known = weighted.parametric
        row |= {"weighted_slope": weighted.slope, "weighted_slope_error": known.standard_error,
                "chi_squared": known.chi_squared, "chi_squared_p": known.p_value}  # fmt: skip
    return row


def text_error(points: Points, bits: ArrayLike) -> float:
    """Standard error of the slope of the plain fit over texts."""
    x = np.asarray(bits, dtype=np.float64)
    x = x - x.mean()
    return float(np.linalg.norm(x @ points.moves) / (x @ x))


def _student(fit: Line) -> dict[str, float]:
    """Of two points, which leave no degree of freedom, nothing."""
    values = (fit.standard_error, fit.low, fit.high) if fit.degrees else (math.nan,) * 3
    return dict(zip(("slope_error", "low", "high"), values, strict=True))


def hypotheses(
    points: Points, predicted: Sequence[float] | None, weight_mse: Sequence[float] | None
) -> Iterator[dict[str, Any]]:
    """Test the slope of the points against each thing that it was said to be.

    A number is taken off as a line, and an expected distortion as its logarithm, bit by bit: a bend that both have
    drops out. What is left has the slope 0 if the expectation is true.

    Parameters
    ----------
    points : Points
        Three or more.
    predicted, weight_mse : sequence of float or None
        Weight MSE of each point, of the fitted laws and as measured; None if there is none, or the points are it.
    """
    x = points.bits
    curves = {WRITTEN: AS_WRITTEN * x, "Shannon": SHANNON * x}
    curves |= {name: np.log(mse) for name, mse in ((FITTED, predicted), (AS_WEIGHTS, weight_mse)) if mse is not None}
    for hypothesis, curve in curves.items():
        expected, rest = line(x, curve).slope, line(x, points.y - curve)
        rival = SHANNON if hypothesis == WRITTEN else AS_WRITTEN
        yield {
            "hypothesis": hypothesis, "expected": expected, "slope": expected + rest.slope, "difference": rest.slope,
            "difference_error": rest.standard_error, "low": rest.low, "high": rest.high, "p": rest.test(),
            "p_equivalent": rest.equivalence(0.0, MARGIN), "rival": rival, "power": power(rest, rival - expected),
            "text_error": text_error(points, x), "n": len(x), "verdict": verdict(rest),
        }  # fmt: skip


def verdict(rest: Line) -> str:
    """Of the difference from what was expected: shown to be small, shown not to be 0, both, or neither."""
    apart, near = rest.test() < LEVEL, rest.equivalence(0.0, MARGIN) < LEVEL
    if near:
        return "supported within 10 %" + (", not exactly" if apart else "")
    return "rejected" if apart else "undecided"


def power(fit: Line, truth: float) -> float:
    """Probability that Student's test at 5 % finds a slope that is not 0 if it is `truth`, with this error.

    Three points, two of them at 4 bits: ln 2/2 and 2 ln 2, 1.04 apart, are told from each other half the time.

    >>> round(power(line([8, 4, 4], [-8.1, -3.3, -3.9]), 1.04), 2)
    0.47
    """
    if not fit.degrees or not fit.standard_error:
        return math.nan
    least, far = float(stats.t.isf(LEVEL / 2, fit.degrees)), abs(truth) / fit.standard_error
    beyond = stats.nct.cdf(-least, fit.degrees, far) if far < 5 else 0.0  # past that 1e-8, and NaN in scipy
    return float(stats.nct.sf(least, fit.degrees, far) + beyond)


def compared(slopes: Mapping[str, Points]) -> Iterator[dict[str, Any]]:
    """Test whether languages share one slope, in two ways.

    "shared curve" (`empirics.regression.parallel`) has them bend together and tests what is left by its scatter, and
    "errors over texts" (`homogeneous`) takes each slope's own error, from its texts.

    Parameters
    ----------
    slopes : mapping of str to Points
        By language, two or more, all of the same configurations of at least two widths.
    """
    x = next(iter(slopes.values())).bits
    slopes_alone = [line(x, points.y).slope for points in slopes.values()]
    spread = {"slope_least": min(slopes_alone), "slope_greatest": max(slopes_alone)}
    groups = len(slopes)
    if len(np.unique(x)) > 2:
        found = parallel(x, [points.y for points in slopes.values()])
        width = float(np.sum((x - x.mean()) ** 2))
        # The mean square that F divides by is the variance of a point about the curve.
        between = sum((s - found.slope) ** 2 for s in slopes_alone) * width / (groups - 1)
        yield {
            "test": "shared curve", "f": found.statistic, "degrees": found.degrees[0],
            "degrees_below": found.degrees[1], "p": found.p_value, "slope": found.slope, **spread,
            "power": _f_power(found.degrees, width * found.statistic / between if between else math.nan, groups),
        }  # fmt: skip
    errors = [text_error(points, x) for points in slopes.values()]
    texts = [points.texts for points in slopes.values()]
    if min(texts) > 1 and min(errors) > 0:
        found = homogeneous(slopes_alone, errors, [n - 1 for n in texts])
        yield {
            "test": "errors over texts", "f": found.statistic, "degrees": found.degrees[0],
            "degrees_below": found.degrees[1], "p": found.p_value, "slope": found.slope, **spread,
            "power": _f_power(found.degrees, float(np.mean(np.array(errors) ** -2.0)), groups),
        }  # fmt: skip


def _f_power(degrees: Sequence[float], precision: float, groups: int) -> float:
    """Of an F test at 5 %, if the slopes have a standard deviation of `MARGIN` among the groups."""
    return float(stats.ncf.sf(stats.f.isf(LEVEL, *degrees), *degrees, (groups - 1) * MARGIN**2 * precision))
