r"""The exponent of the generalized Gaussian (GGD) by maximum likelihood, with its standard error.

`marginal` fits one law to all weights. `within_rows` fits one exponent to rows that each have a scale of
their own: real matrices are scale mixtures, and their marginal tail is heavier than that of any row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import digamma, gammaln, polygamma

from empirics import rows_cuda
from empirics.histogram import chunk_size, flattened, refuse_non_finite
from empirics.influence import Influence, independent_variance
from theory import ggd
from theory.sources import Histogram

LOWEST, HIGHEST = 0.1, 50.0
_CHUNK = 2**17  # float64 temporaries of 1 MB: they stay in the cache
_START = 1.5
_SUBSAMPLE = 2**20
_LIMIT = 100


@dataclass(frozen=True)
class Fit:
    """A maximum-likelihood fit of the GGD's exponent.

    Attributes
    ----------
    beta : float
        Exponent, in [0.1, 50].
    standard_error : float
        Of beta, robust to the law not being a GGD; NaN at an end of the range.
    sigma : float
        Standard deviation of the fitted law, in the weights' units; for rows, the root mean square of theirs.
    log_likelihood : float
        Nats per weight; for rows, of the scale-free statistic that `within_rows` maximizes.
    n, rows : int
        Weights and scale groups used. `zero_rows` more were all zero, and left out.
    status : str
        "converged"; "beta reached 0.1" or "beta reached 50": the likelihood still rises there; or
        "tolerance not reached".
    iterations : int
        Evaluations of the score on all the data.
    row_second_moments : tensor of shape (rows + zero_rows,), optional
        Mean square of each row, in the weights' units squared: float64, where the weights are.
    influence : callable, optional
        Of a marginal fit: what a weight moves beta by, for `empirics.influence.standard_errors`.
    """

    beta: float
    standard_error: float
    sigma: float
    log_likelihood: float
    n: int
    rows: int
    status: str
    iterations: int
    zero_rows: int = 0
    row_second_moments: torch.Tensor | None = field(default=None, repr=False, compare=False)
    influence: Influence | None = field(default=None, repr=False, compare=False)


def marginal(histogram: Histogram, name: str = "tensor") -> Fit:
    r"""Fit a GGD about 0 to a histogram of weights; the cost does not depend on the number of weights.

    With :math:`m = E|x|^\beta` and the scale profiled out, :math:`\alpha^\beta = \beta m`, maximize

    .. math:: \ln\frac{\beta}{2\Gamma(1/\beta)} - \frac{\ln(\beta m) + 1}{\beta} \quad\text{nats per weight.}

    Parameters
    ----------
    histogram : Histogram
        With counts, not probabilities: they say how many weights there are. 0 is an atom like any other.
    name : str
        What the error messages call the tensor.

    Returns
    -------
    Fit

    Raises
    ------
    ValueError
        Fewer than 8 weights, or fewer than 2 distinct non-zero magnitudes: the likelihood has no maximum.

    Notes
    -----
    The standard error is the sandwich :math:`\sqrt{E u^2/n}/|E u'|` of the efficient score u, right under iid
    sampling even if the law is no GGD. Weights are not iid when rows differ in scale: it is then too small, and
    `empirics.influence.standard_errors` of the fit's `influence` right.
    Exact zeros make the likelihood unbounded as beta -> 0. A few do not matter in the range searched; where
    they are many (pruned weights), beta reaches 0.1: fit the weights that are not zero.

    References: [VaranasiAazhang1989] for the likelihood equations; [White1982] for the sandwich.

    Examples
    --------
    >>> histogram = Histogram(np.array([-3.0, -1.5, -0.5, 0.5, 1.5, 3.0]), np.array([1, 4, 9, 9, 4, 1]))
    >>> round(marginal(histogram).beta, 4)
    1.7622
    """
    magnitude, index = np.unique(np.abs(histogram.values), return_inverse=True)
    n, peak, positive = int(histogram.counts.sum()), float(magnitude[-1]), magnitude > 0
    _refuse_degenerate(n, int(positive.sum()), name)
    p = np.bincount(index, histogram.probabilities)[positive]
    logs = np.log(magnitude[positive] / peak)  # relative to the largest, no power overflows

    def evaluate(beta: float) -> _Point:
        w, u = p * np.exp(beta * logs), 1 / beta
        m = w.sum()
        slope, square = w @ logs / m, w @ logs**2 / m
        bracket = digamma(u) + math.log(beta * m)
        score = u + bracket * u**2 - slope * u
        curvature = -(u**2) - polygamma(1, u) * u**4 - 2 * bracket * u**3
        curvature += (u + 2 * slope) * u**2 - (square - slope**2) * u
        alpha = (beta * m) ** u
        likelihood = math.log(beta / (2 * alpha * peak)) - gammaln(u) - u
        return _Point(*map(float, (score, curvature, likelihood, alpha, score**2)))

    beta, point, status, iterations = _newton(evaluate, _START)
    # Scores in beta and in ln alpha; what the second leaves of the first is the efficient score.
    alpha = point.alpha * peak
    log_t = beta * (logs - math.log(point.alpha))
    constant = float(1 / beta + digamma(1 / beta) / beta**2)  # numpy's floats do not multiply a GPU's tensors
    regression = float(p @ (np.exp(log_t) * (1 + log_t)) / beta)

    def influence(x: torch.Tensor) -> torch.Tensor:
        log_t = beta * (x.abs() / alpha).log_().clamp_(min=-1e4)  # of 0 it is finite, so that its product with t is 0
        t = log_t.exp()
        return (constant - t * log_t / beta + regression * (beta * t - 1)) / abs(point.curvature)

    sigma = alpha / float(ggd.alpha(beta))
    error = math.nan
    if status == "converged":
        error = math.sqrt(independent_variance(histogram, influence))
    return Fit(beta, error, sigma, point.likelihood, n, 1, status, iterations, influence=influence)


def within_rows(tensor: torch.Tensor, beta0: float | None = None, name: str = "tensor") -> Fit:
    r"""Fit one exponent to rows that each have a free scale. A row is the last dimension.

    Profiling the scales out biases beta by O(1/n) for rows of n, however many rows there are. Instead
    maximize the likelihood of what does not depend on the scale, exactly: integrating
    :math:`d\alpha/\alpha`, a row with :math:`S = \sum|x_i|^\beta` has

    .. math:: \ell = (n-1)\ln\beta - n\ln 2\Gamma(1/\beta) + \ln\Gamma(n/\beta) - \frac{n}{\beta}\ln S.

    Parameters
    ----------
    tensor : torch.Tensor
        Weights of shape (..., n), floating-point, n >= 2; any device.
    beta0 : float, optional
        Where to start; by default the fit to about 2**20 of the weights.
    name : str
        What the error messages call the tensor.

    Returns
    -------
    Fit
        `rows` are the rows that are not all zero.

    Raises
    ------
    ValueError
        NaN or infinity; fewer than 8 weights or 2 rows; no row with 2 distinct non-zero magnitudes.

    Notes
    -----
    float64 throughout, in chunks. The standard error is the sandwich clustered by row,
    :math:`\sqrt{\tfrac{R}{R-1}\sum_r (\ell_r')^2}/|\sum_r\ell_r''|`: weights may depend on each other within
    a row, rows may not. A table of the 65,536 powers of a bf16 tensor, looked up by bits, was slower than log
    and exp.

    References: [NeymanScott1948]; [KalbfleischSprott1970] for marginal likelihood; [White1982].

    Examples
    --------
    >>> rows = torch.tensor([[1.0, -2.0, 0.5, 3.0], [0.1, 0.2, -0.25, 0.4]])
    >>> round(within_rows(rows).beta, 4) == round(within_rows(rows * torch.tensor([[1.0], [64.0]])).beta, 4)
    True
    """
    flat = flattened(tensor, name)
    _refuse_degenerate(len(flat), 2, name)
    width = tensor.shape[-1]
    rows = flat.view(-1, width)
    peaks, squares, mixed = _summaries(rows)
    bad = rows[~torch.isfinite(peaks)]
    refuse_non_finite(int((~torch.isfinite(bad)).sum()), len(flat), name)
    live = peaks.nonzero()[:, 0]
    count = len(live)
    if count < 2:
        raise ValueError(f"{name}: {count} rows are not all zero; the standard error within rows needs 2")
    _refuse_degenerate(count * width, 1 + int(mixed.any()), name)

    def evaluate(beta: float, index: torch.Tensor = live) -> _Point:
        s, slope, square = _powers(rows, index, peaks, beta)
        n, u, logs = width, 1 / beta, s.log()
        bracket = logs + (digamma(u) - digamma(n * u))
        score = (n - 1) * u + n * bracket * u**2 - n * slope * u
        curvature = 2 * n * slope * u**2 - 2 * n * bracket * u**3 - n * u * (square - slope**2)
        curvature += n * u**4 * (n * polygamma(1, n * u) - polygamma(1, u)) - (n - 1) * u**2
        scale = peaks[index]
        constant = float((n - 1) * math.log(beta) - n * (math.log(2) + gammaln(u)) + gammaln(n * u))
        likelihood = constant - n * (u * logs + scale.log())
        squared_scale = (scale * (beta / n * s) ** u).square()
        parts = (score, curvature, likelihood, squared_scale, score.square())
        sums = torch.stack([part.sum() for part in parts]).tolist()  # one wait for a GPU, not five
        return _Point(sums[0], sums[1], sums[2], math.sqrt(sums[3] / len(index)), sums[4])

    stride = -(-count * width // _SUBSAMPLE)
    if beta0 is None:
        beta0 = _START if stride == 1 else _newton(lambda beta: evaluate(beta, live[::stride]), _START)[0]
    beta, point, status, iterations = _newton(evaluate, beta0)
    error = math.nan
    if status == "converged":
        error = math.sqrt(count / (count - 1) * point.squared_score) / abs(point.curvature)
    return Fit(
        beta,
        error,
        sigma=point.alpha / float(ggd.alpha(beta)),
        log_likelihood=point.likelihood / (count * width),
        n=count * width,
        rows=count,
        status=status,
        iterations=iterations,
        zero_rows=len(rows) - count,
        row_second_moments=squares,
    )


@dataclass(frozen=True)
class _Point:
    """Sums over rows of the two derivatives in beta, of the log-likelihood and of the squared first derivatives.

    `alpha` is the root mean square of theirs.
    """

    score: float
    curvature: float
    likelihood: float
    alpha: float
    squared_score: float


def _newton(evaluate: Callable[[float], _Point], start: float) -> tuple[float, _Point, str, int]:
    """Root of the score in [0.1, 50]: Newton's method in a shrinking bracket, at most a factor 2 a step.

    Returns beta, the last point evaluated (within 1e-8 of beta), the status and the number of evaluations.
    """
    low, high, beta = LOWEST, HIGHEST, start
    for iteration in range(1, _LIMIT + 1):
        point = evaluate(beta)
        score, curvature = point.score, point.curvature
        if beta == (HIGHEST if score > 0 else LOWEST):
            return beta, point, f"beta reached {beta:g}", iteration
        low, high = (beta, high) if score > 0 else (low, beta)
        # Where the likelihood is convex, climb.
        step = -score / curvature if curvature < 0 else math.copysign(beta, score)
        if abs(step) <= 1e-8 * beta:
            return beta + step, point, "converged", iteration
        trial = min(max(beta + step, beta / 2, LOWEST), 2 * beta, HIGHEST)
        beta = trial if low <= trial <= high else math.sqrt(low * high)
    return beta, point, "tolerance not reached", _LIMIT


def _in_chunks(f: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], rows: torch.Tensor, width: int) -> torch.Tensor:
    """Three numbers for each row (or index of a row) of `width` weights, from f of a few rows at a time."""
    # Filled in place: small results kept between large temporaries would pin the heap, chunk after chunk.
    out = torch.empty(3, len(rows), dtype=torch.float64, device=rows.device)
    step = max(1, chunk_size(rows.device, _CHUNK) // width)
    for start in range(0, len(rows), step):
        out[:, start : start + step] = torch.stack(f(rows[start : start + step]))
    return out


def _summaries(rows: torch.Tensor) -> torch.Tensor:
    """Of each row the largest magnitude, the mean square, and whether a smaller magnitude, not 0, is in it."""
    if (found := rows_cuda.summary(rows) if rows.is_cuda else None) is None:
        return _in_chunks(_row_summary, rows, rows.shape[1])
    (peaks, smallest), (squares, _) = found
    return torch.stack([peaks.double(), squares / rows.shape[1], (smallest < peaks).double()])


def _powers(rows: torch.Tensor, index: torch.Tensor, peaks: torch.Tensor, beta: float) -> torch.Tensor:
    """Of the rows of that index `_power_sums`."""
    sums = rows_cuda.powers(rows, index, peaks[index], beta) if rows.is_cuda else None
    if sums is None:
        return _in_chunks(lambda i: _power_sums(rows[i], peaks[i], beta), index, rows.shape[1])
    sums[1:] /= sums[0].clone()
    return sums


def _row_summary(chunk: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Largest magnitude of each row, its mean square, and whether a smaller magnitude, not 0, is in it."""
    x = chunk.double().abs()
    peak = x.amax(1, keepdim=True)
    mixed = ((x > 0) & (x < peak)).any(1)
    return peak[:, 0], x.square_().mean(1), mixed.double()


def _power_sums(chunk: torch.Tensor, peaks: torch.Tensor, beta: float) -> tuple[torch.Tensor, ...]:
    """S = sum t**beta of each row, t = |x|/peak, and the means of ln t and (ln t)**2 weighted by t**beta."""
    # A zero's logarithm is made finite, so that its product with its power, 0, is 0.
    logs = (chunk.double().abs_() / peaks[:, None]).log_().clamp_(min=-1e4)
    power = torch.exp(beta * logs)
    s = power.sum(1)
    first = power.mul_(logs).sum(1)
    return s, first / s, power.mul_(logs).sum(1) / s


def _refuse_degenerate(n: int, magnitudes: int, name: str) -> None:
    if n < 8:
        raise ValueError(f"{name}: {n} weights are too few to fit an exponent; give 8")
    if magnitudes < 2:
        raise ValueError(f"{name}: fewer than 2 distinct non-zero magnitudes do not determine an exponent")
