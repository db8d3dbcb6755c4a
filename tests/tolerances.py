"""Every tolerance of the tests of `theory`'s foundation, each with its reason."""

from __future__ import annotations

from typing import Any

import pytest

EPS = 2.0**-52

# Relative error of a float64 closed form, beta in [0.3, 20]: what theory/ggd.py promises. Measured, the worst is
# 1.1e-14 (kurtosis, fourth moment and KL divergence at the ends of the range).
CLOSED_FORM = 1e-13

# An incomplete gamma function or exp(-t) at t = |x/alpha|**beta inherits t's relative error times t, and t the
# error of x/alpha times beta: no float64 formula can do better. Measured, all below 1e-13 for t < 100.
TAIL_EPS = 4 * EPS


def tail(beta: float, t: float) -> float:
    """Relative tolerance of pdf, cdf and partial moments at t = |x/alpha|**beta."""
    return CLOSED_FORM + TAIL_EPS * (1 + beta) * t


# kl(beta1, beta2): the terms are of order 1 or larger and cancel, so what is bounded is the error in units of the
# largest term. Measured 3e-15 bit near equality.
KL_ABSOLUTE = 2e-14

# h = ln(scale) + constant: relative accuracy is lost where h crosses 0, not absolute accuracy.
ENTROPY_ABSOLUTE = 8 * EPS

# mpmath rounds once at the end: half an ulp, and the guard digits' own error beside it. `fisher_excess` divides
# by sigma**2 after that rounding, `from_nats` may too.
MP_ULPS = 0.51
MP_ULPS_TWO_ROUNDINGS = 1.6

# Radius of a ball in units of 2**-prec of its value. An exact input costs a handful of roundings, each times the
# condition number of the functions along the way (measured 310 for the moments, 8500 for P(1/beta, t), beta = 0.3).
BALL_WIDTH = 1e4
# arb's upper incomplete gamma function is 1 minus the lower one until both are asymptotic: absolutely sharp, and
# relatively wide by 1/tail. A quantile inherits that (measured 1.3e6 units at p = 1e-10, prec 53; 4.6e11, prec 120).
BALL_TAIL = 2.0**32

# Sums of a few float64 moments.
SUM = 1e-13

# ScaleMixture.entropy promises 1e-9 nat.
MIXTURE_ENTROPY = 1e-9

# brentq to a relative 1e-14 of a cdf that is itself good to 1e-16: in units of 1/(pdf scale).
MIXTURE_QUANTILE = 1e-12

# scipy.stats.gennorm takes no trouble with its scale: sqrt(Gamma/Gamma) by us, the rest its own.
SCIPY = 2e-12

# bitsandbytes compares with thresholds written to six or seven digits in its source: an element that close to one may
# go to either side. Measured 4e-8 for NF4 and FP4.
BNB_THRESHOLD = 1e-6

# Ratio of two Gaussian quantiles, through the incomplete gamma function here and the error function there: 7e-15.
NORMAL_QUANTILE = 2e-14

# The optimizer stops at rounding, 1e-14; the quadrature over the scale is good to 1e-13; the table has 15 digits.
REDERIVED = 1e-12


def close(expected: Any, rel: float = 0.0, abs: float = 0.0) -> Any:
    """pytest.approx without its silent absolute tolerance of 1e-12, which any tail would pass."""
    return pytest.approx(expected, rel=rel or (0.0 if abs else 1e-6), abs=abs)

# What theory/block_source.py promises of a block-scaled moment or distortion, relative; 4e-13 against the ball.
BLOCK = 1e-12

# Draws with a fixed seed: they pass or fail for ever, and 4 standard errors fail one honest comparison in 16,000.
STANDARD_ERRORS = 4

# The error of a few atoms of size 2 is a sum of moments of that size, where it may be 0.
SUM_OF_MOMENTS = 4e-15

# What is left of "level = centroid", in units of sigma. In a tail cell of 1e-8 of the mass a centroid is the ratio of
# two differences of incomplete gammas: 3e-11 for 1024 levels of the heaviest tail, 1e-14 for 16.
CENTROID = 1e-9

# The step and the Lagrangian are roots of a rate that is itself a sum of 1e3 terms: measured 1e-12 bit.
RATE = 1e-10
