r"""Uniform codebooks: levels :math:`B\theta`, linear in a step and perhaps an offset, fitted to a source.

With f half the gradient of D by the levels and J its Jacobian (`theory.codebook_design.stationary`), those by the
parameters are :math:`g = B^\top f` and :math:`H = B^\top J B`. The levels that are best for the cells as they are,
by least squares, are a step :math:`-(B^\top \mathrm{diag}(M_0) B)^{-1} g`, which never raises D.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import optimize

from theory import arithmetic, quantizer_balls
from theory.codebook_design import Quantizer, cell_moments, midpoints, mse
from theory.domain import COUNT, accept, unknown
from theory.sources import GGD, Source

KINDS = ("midrise", "midtread", "asymmetric")


def basis(n: int, kind: str) -> np.ndarray:
    r"""The matrix B of a uniform codebook of n levels: multiples of the step last, and of the offset.

    Parameters
    ----------
    n : int
        Number of levels, >= 1.
    kind : str
        "midrise": :math:`(i - (n-1)/2)\Delta`. "midtread": :math:`k\Delta` with 0 among the levels, for even n the
        two's complement range -n/2 ... n/2 - 1. "asymmetric": :math:`a + (i - (n-1)/2)\Delta`.

    Raises
    ------
    ValueError
        If n < 1 or the kind is unknown.

    Examples
    --------
    >>> basis(4, "midrise").T, basis(4, "midtread").T
    (array([[-1.5, -0.5,  0.5,  1.5]]), array([[-2., -1.,  0.,  1.]]))
    """
    _, n = accept(n=(n, COUNT))
    if kind not in KINDS:
        raise unknown("kind of uniform codebook", kind, KINDS)
    k = np.arange(int(n)) - (n // 2 if kind == "midtread" else (n - 1) / 2)
    return np.stack([np.ones(int(n)), k] if kind == "asymmetric" else [k], axis=1)


def uniform(source: Source, n: int, kind: str = "midrise") -> Quantizer:
    r"""Optimal uniform quantizer of n levels for the mean squared error.

    Parameters
    ----------
    source : Source
        float64 (any source), or a `GGD` of mpf or of balls.
    n : int
        Number of levels, >= 1.
    kind : str
        "midrise", "midtread" or "asymmetric": see `basis`. In the last the offset is free too, as with integers that
        have a zero point.

    Returns
    -------
    Quantizer
        With ``rate = log2 n``; the step is the difference of two levels. For a source of balls its levels are balls
        that hold one strict local minimum, and its mse is that minimum's; for one of mpf, their midpoints.

    Raises
    ------
    ValueError
        If n < 1 or the kind is unknown.
    ArithmeticError
        If no stationary point can be certified for a source of mpf or balls.

    Notes
    -----
    For a density, damped Newton steps from the best of a scan over steps, or, with an offset, from the best codebooks
    without one. On atoms the distortion is only piecewise smooth: simplex searches from the best
    points of a scan, then least squares with the cells fixed, until they stay. That the minimum is the least
    everywhere is not proved; the asymmetric codebook is never worse than the two others, nor than the midtread one
    reflected.

    Examples
    --------
    >>> q = uniform(GGD(2.0), 16)
    >>> round(float(q.levels[1] - q.levels[0]), 10), round(float(q.mse), 10)
    (0.3352006122, 0.0115428844)
    """
    b, xp = basis(n, kind), arithmetic.of(source.variance)
    if xp.name == "mpmath" and isinstance(source, GGD):
        return quantizer_balls.in_mpmath(lambda law: uniform(law, n, kind), source)
    if xp.name == "ball" and isinstance(source, GGD):
        found = uniform(GGD(float(source.beta.mid())), n, kind)
        if n == 1:
            return quantizer_balls.lloyd_max(found.levels, source)
        return quantizer_balls.uniform(np.linalg.lstsq(b, found.levels)[0], b, source)
    if n == 1:
        level = np.array([float(source.partial_moment(1, -np.inf, np.inf)) if kind == "asymmetric" else 0.0])
        return Quantizer(level, np.zeros(0), mse(level, source), 0.0)
    refine = _newton if source.continuous else _on_atoms
    tried = [refine(theta, b, source) for theta in _starts(source, n, kind)]
    theta, iterations, residual, status = min(tried, key=lambda found: mse(b @ found[0], source))
    levels = b @ theta
    return Quantizer(levels, midpoints(levels), mse(levels, source), math.log2(n), status, iterations, residual)


def _starts(source: Source, n: int, kind: str) -> list[Any]:
    sigma = math.sqrt(float(source.variance))
    if kind != "asymmetric":
        reach = max(abs(float(source.quantile(p))) for p in (1e-12, 1 - 1e-12))
        steps = np.geomspace(0.05 * sigma, max(8 * sigma, reach), 32 if source.continuous else 128) * 2 / n
        return _best([[step] for step in steps], basis(n, kind), source)
    rise, tread = (uniform(source, n, symmetric) for symmetric in ("midrise", "midtread"))
    middle = (tread.levels[0] + tread.levels[-1]) / 2
    step, step_with_0 = (float(q.levels[1] - q.levels[0]) for q in (rise, tread))
    starts = [[0.0, step], [middle, step_with_0], [-middle, step_with_0]]
    if source.continuous:
        return starts
    low, high = float(source.quantile(1e-12)), float(source.quantile(1 - 1e-12))
    widths, centres = np.geomspace(0.02, 1, 24) * (high - low), np.linspace(low, high, 17)
    grid = [[centre, width / (n - 1)] for centre in centres for width in widths]
    return starts + _best(grid, basis(n, kind), source)


def _best(thetas: list[Any], b: Any, source: Source) -> list[Any]:
    """The best of `thetas`: one for a density, a few for atoms."""
    order = np.argsort([float(mse(b @ np.asarray(theta), source)) for theta in thetas], kind="stable")
    return [thetas[i] for i in order[: 1 if source.continuous else 4]]


def _newton(theta: Any, b: Any, source: Any) -> tuple[Any, int, float, str]:
    """Levenberg-Marquardt from the parameters `theta`, to rounding: (theta, iterations, residual, status)."""
    theta, mu, size, sigma = np.array(theta), 0.0, np.inf, math.sqrt(float(source.variance))
    error, rounding = float(mse(b @ theta, source)), 2.0**-49 * sigma**2
    for iteration in range(1, 201):
        levels = b @ theta
        thresholds, t = midpoints(levels), midpoints(b)
        m0, m1 = cell_moments(source, thresholds, orders=2)
        mass = b.T @ (b * m0[:, None])
        hessian = mass - t.T @ (t * (np.diff(levels) * source.pdf(thresholds))[:, None])
        gradient = b.T @ (levels * m0 - m1)
        while True:
            damped = hessian + mu * mass
            if np.linalg.eigvalsh(damped)[0] > 0:
                step = np.linalg.solve(damped, -gradient)
                moved = float(mse(b @ (theta + step), source)) if (theta + step)[-1] > 0 else np.inf
                settled = mu == 0 and float(np.abs(b @ step).max()) < 1e-9 * sigma  # D has no digits for it
                if moved <= error + rounding or settled:
                    break
            mu = max(8 * mu, 1e-3)
            if mu > 1e9:
                return theta, iteration, size, "no step lowers the distortion"
        last, size = size, float(np.abs(b @ step).max()) / sigma
        if mu == 0 and size >= last / 2 and size < 1e-7:
            return theta, iteration, last, "converged"
        theta, error, mu = theta + step, moved, (mu / 16 if mu > 1e-2 else 0.0)
    return theta, 200, size, "tolerance not reached in 200 iterations"


def _on_atoms(theta: Any, b: Any, source: Any) -> tuple[Any, int, float, str]:
    """A simplex search from the parameters `theta`, then least squares: (theta, iterations, residual, status)."""
    sigma = math.sqrt(float(source.variance))

    def distortion(theta: Any) -> float:
        return float(mse(b @ theta, source)) if theta[-1] > 0 else np.inf

    simplex = np.array(theta) + theta[-1] * np.vstack([np.zeros(len(theta)), np.diag([0.3, 0.05][-len(theta) :])])
    options = {"initial_simplex": simplex, "xatol": 1e-9 * sigma, "fatol": np.inf}
    found = optimize.minimize(distortion, theta, method="Nelder-Mead", options=options)
    theta, error = found.x, found.fun
    for _ in range(100):
        levels = b @ theta
        m0, m1 = cell_moments(source, midpoints(levels), orders=2)
        step = np.linalg.lstsq(b.T @ (b * m0[:, None]), b.T @ (m1 - levels * m0))[0]
        residual, moved = float(np.abs(b @ step).max()) / sigma, distortion(theta + step)
        if not moved < error:
            break
        theta, error = theta + step, moved
    return theta, found.nit, residual, "converged" if found.success else str(found.message)
