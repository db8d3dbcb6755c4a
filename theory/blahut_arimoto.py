r"""The optimal reproduction law of a rate-distortion problem, by interior-point Newton steps.

For a slope ``s`` and atoms ``y`` the weights solve a convex problem,

.. math:: \max_{q \ge 0}\; E\ln c(X) - \sum_j q_j, \qquad c(x) = \sum_j q_j\,e^{-s(x-y_j)^2},

and they are optimal among all laws on the line exactly when :math:`g(y) = E[e^{-s(X-y)^2}/c(X)] \le 1` for every
real y. It is the nonparametric maximum likelihood of a Gaussian mixture [KoenkerMizera2014]. Blahut-Arimoto
[Blahut1972] is the EM algorithm on it, whose error falls only like 1/iterations where weights ought to vanish.
Here a step is Newton's on the barrier problem, in all weights and ``log s`` together. The kernel is local: an
atom meets the nodes within some kernel widths, so the Hessian is banded and a step is linear in the number of
atoms. No bracket depends on this module being right: `theory.rate_distortion` certifies what it returns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, solveh_banded

_RADIUS = 7.5  # kernel widths, where the kernel is 6e-13: far enough for a Newton step
_SPAN, _CHUNK = 3.0, 64  # kernel widths, and points, that share at most one window
_PART = 1 << 17  # kernel values that a `Sweep` holds at a time: a megabyte, which stays in the cache
_BLOCK = 1 << 20  # and `potential`, which does less with each: blocks that are smaller cost more than they save


@dataclass(frozen=True)
class Nodes:
    """The source as increasing points `x` with masses `p` (summing to 1, or less where a tail is left out).

    With `folded` the source is symmetric: x >= 0 stands for x and -x, and `p` is the mass of both. An atom
    y >= 0 then likewise stands for y and -y, half of its weight on each.
    """

    x: np.ndarray
    p: np.ndarray
    folded: bool = False

    def unfold(self, masses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points and `masses` on the whole line."""
        return unfold(self.x, masses) if self.folded else (self.x, masses)


def unfold(y: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Write the pairs (y, -y) out: half of each mass on either side."""
    return np.concatenate([-y[::-1], y]), np.concatenate([q[::-1], q]) / 2


@dataclass(frozen=True)
class Reproduction:
    """Atoms `y`, increasing, with weights `q`, and the slope `s` they are meant for."""

    y: np.ndarray
    q: np.ndarray
    s: float
    iterations: int = 0
    settled: bool = True


def _chunks(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group increasing points in rows of `_CHUNK` within `_SPAN`: indices (rows, m) and their mask."""
    reach = np.searchsorted(x, x + _SPAN, side="right").tolist()
    starts = [0]
    while starts[-1] < len(x):
        starts.append(min(reach[starts[-1]], starts[-1] + _CHUNK))
    first, count = np.array(starts[:-1])[:, None], np.diff(starts)[:, None]
    offset = np.arange(count.max())
    return np.minimum(first + offset, first + count - 1), offset < count


def _windows(rows: np.ndarray, points: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Which of the increasing `points` lie within `radius` of a row: indices (rows, width) and mask."""
    low = np.searchsorted(points, rows[:, 0] - radius)[:, None]
    high = np.searchsorted(points, rows[:, -1] + radius)[:, None]
    index = low + np.arange(max(1, int((high - low).max())))
    return np.minimum(index, len(points) - 1), index < high


class Sweep:
    """One pass over nodes and atoms, a few at a time: the mixture, the distortion, and derivatives up to an order.

    Attributes
    ----------
    c : array
        The mixture at the nodes.
    mean_log : float
        ``E ln c``.
    distortion : float
        ``D_s``.
    gradient, cross : array
        From order 1: ``dE ln c/dlog q = q g``, and its derivative in log s.
    spread : float
        From order 1: ``-dD_s / dlog s`` at fixed weights.
    hessian : array
        From order 2: minus the second derivative in log q (without its first-order diagonal), lower banded.
    """

    def __init__(self, nodes: Nodes, r: Reproduction, radius: float = _RADIUS, order: int = 0) -> None:
        k = math.sqrt(2 * r.s)
        at, weight = unfold(r.y * k, r.q) if nodes.folded else (r.y * k, r.q)
        n = len(r.y)
        owner = np.concatenate([np.arange(n)[::-1], np.arange(n)]) if nodes.folded else np.arange(n)
        x = nodes.x * k
        rows, inside = _chunks(x)
        count = np.searchsorted(at, x[rows[:, -1]] + radius) - np.searchsorted(at, x[rows[:, 0]] - radius)
        # A pass costs the square of the widest window in it: the few rows among close atoms go apart.
        crowded = count > 1.1 * np.median(count)
        self.s = r.s
        self.c = np.empty(len(x))
        gradient, cross = np.zeros((2, n))
        second, fourth, bands = 0.0, 0.0, []
        for group in (np.flatnonzero(~crowded), np.flatnonzero(crowded)):
            step = max(1, _PART // (rows.shape[1] * count[group].max(initial=1)))
            for some in (group[start : start + step] for start in range(0, len(group), step)):
                part = _Part(x, nodes.p, at, weight, owner, rows[some], inside[some], radius)
                self.c[rows[some][inside[some]]] = part.c[inside[some]]
                second += float((part.p * part.vbar).sum())
                if order > 0:
                    fourth += part.spread()
                    for total, of_part in zip((gradient, cross), part.gradient(n), strict=True):
                        total += of_part
                if order > 1:
                    bands.append(part.hessian())
        self.mean_log = float(nodes.p @ np.log(self.c))
        self.distortion = second / (2 * r.s)
        if order > 0:  # what was not computed is not there, rather than 0
            self.gradient, self.cross, self.spread = gradient, cross, fourth / (4 * r.s)
        if order > 1:
            self.hessian = np.zeros((max(len(band) for _, band in bands), n))
            for low, band in bands:
                self.hessian[: len(band), low : low + band.shape[1]] += band

    @property
    def rate(self) -> float:
        """``-s D_s - E ln c``, at least R(D_s), in nats."""
        return -self.s * self.distortion - self.mean_log


class _Part:
    """Rows of nodes with windows of atoms of about one width: the channel `w`, and what it weighs."""

    def __init__(
        self, x: Any, p: Any, at: Any, weight: Any, owner: Any, rows: Any, inside: Any, radius: float
    ) -> None:  # fmt: skip
        index, ok = _windows(x[rows], at, radius)
        self.owner = np.where(ok, owner[index], -1)
        self.p = np.where(inside, p[rows], 0.0)
        self.v2 = (x[rows][:, :, None] - at[index][:, None, :]) ** 2
        self.w = np.exp(-0.5 * self.v2)
        self.w *= np.where(ok, weight[index], 0.0)[:, None, :]
        # A node out of reach of every atom has c = 0; the floor keeps the pass finite and -ln c enormous.
        self.c = np.maximum(self.w.sum(2), 1e-300)
        self.w /= self.c[:, :, None]
        self.vbar = np.einsum("ijk,ijk->ij", self.w, self.v2)

    def spread(self) -> float:
        fourth = np.einsum("ijk,ijk,ijk->ij", self.w, self.v2, self.v2)
        return float((self.p * (fourth - self.vbar**2)).sum())

    def gradient(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        mass = np.einsum("ijk,ij->ik", self.w, self.p)
        moment = np.einsum("ijk,ijk,ij->ik", self.w, self.v2, self.p)
        shift = np.einsum("ijk,ij->ik", self.w, self.p * self.vbar)
        return self._gather(mass, n), -0.5 * self._gather(moment - shift, n)

    def _gather(self, values: np.ndarray, n: int) -> np.ndarray:
        return np.bincount(self.owner.ravel() + 1, values.ravel(), n + 1)[1:]

    def hessian(self) -> tuple[int, np.ndarray]:
        """The first atom in reach, and the bands of those from it on."""
        a = self.w * np.sqrt(self.p)[:, :, None]
        block = np.matmul(a.transpose(0, 2, 1), a)
        low = int(self.owner.min(initial=self.owner.max(initial=0), where=self.owner >= 0))
        n = int(self.owner.max(initial=low)) - low + 1
        row, column = self.owner[:, :, None], self.owner[:, None, :]
        offset = row - column
        below = (offset >= 0) & (column >= 0)
        flat = (offset * n + column - low)[below]
        width = int(offset[below].max(initial=0)) + 1
        return low, np.bincount(flat, block[below], width * n).reshape(width, n).astype(float)  # of nothing: integers


def potential(nodes: Nodes, u: np.ndarray, y: np.ndarray, s: float, radius: float) -> Iterator[np.ndarray]:
    r""":math:`f(y) = \sum_i u_i e^{-s(x_i-y)^2}` and two derivatives, in kernel widths: yields blocks (3, m).

    `y` increases and may be long: blocks come in its order, and keep the working set in the cache.
    """
    k = math.sqrt(2 * s)
    x, u = nodes.unfold(u)
    x, y = x * k, y * k
    rows, inside = _chunks(y)
    first, last = y[rows[:, 0]] - radius, y[rows[:, -1]] + radius
    count = np.searchsorted(x, last) - np.searchsorted(x, first)
    start = 0
    while start < len(rows):
        # The widest window sets the size of a block: a histogram may have most of its atoms in one of them.
        size = rows.shape[1] * np.maximum.accumulate(count[start:]) * np.arange(1, len(rows) - start + 1)
        part = slice(start, start + max(1, int(np.searchsorted(size, _BLOCK))))
        start = part.stop
        index, ok = _windows(y[rows[part]], x, radius)
        v = x[index][:, None, :] - y[rows[part]][:, :, None]
        mass = np.where(ok, u[index], 0.0)[:, :, None]
        kernel = np.exp(-0.5 * v * v)
        value = np.matmul(kernel, mass)
        kernel *= v
        slope = np.matmul(kernel, mass)
        kernel *= v
        bend = np.matmul(kernel, mass) - value
        yield np.stack([part_of[..., 0][inside[part]] for part_of in (value, slope, bend)])


def _solve(matrix: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    for damping in (1e-14, 1e-11, 1e-8, 1e-5):  # neighbouring columns are alike to the last digit
        damped = matrix.copy()
        damped[0] += damping * matrix[0] + 1e-290
        try:
            return solveh_banded(damped, rhs, lower=True, check_finite=False, overwrite_ab=True)
        except LinAlgError:
            continue
    raise LinAlgError("the Newton system is not positive definite")


def improve(
    nodes: Nodes,
    start: Reproduction,
    omega: np.ndarray,
    *,
    target: float,
    is_rate: bool = False,
    barrier: float,
    floor: float,
    limit: int = 150,
) -> Reproduction:
    r"""Take primal-dual Newton steps until the barrier is at `floor` and the distortion at `target`.

    Parameters
    ----------
    nodes : Nodes
        The source.
    start : Reproduction
        Positive weights to begin at.
    omega : array
        Mass of the source near each atom. The barrier is ``mu * sum(omega * log q)``: in proportion, so that
        the slack ``1 - g`` at an atom in use is as small in the tails as in the bulk.
    target : float
        The distortion, or the rate in nats if `is_rate`, that the slope is moved to.
    barrier, floor : float
        First and last mu; at the end g is at most about 1 + floor over the atoms.
    """
    y, q, s, mu = start.y, start.q, start.s, barrier
    z = np.maximum(mu * omega / q, mu)
    settled, done = False, 0
    while not settled and done < limit:
        done += 1
        sweep = Sweep(nodes, Reproduction(y, q, s), order=2)
        first, cross, matrix = sweep.gradient, sweep.cross, sweep.hessian
        matrix[0] += q * z
        try:
            step, along = _solve(matrix, np.stack([first + mu * omega - q, cross], 1)).T
        except LinAlgError:
            break
        # The slope is the unknown that borders the system: its equation is D_s = target.
        goal = sweep.distortion + (sweep.rate - target) / s if is_rate else target
        response = sweep.spread + cross @ along / s
        miss = sweep.distortion - goal - cross @ step / s
        reach = min(0.3, 2 / max(1e-9, np.abs(along).max()))  # what keeps the weights within a factor
        log_s = float(np.clip(miss / response if response > 0 else math.copysign(reach, miss), -reach, reach))
        step = step + log_s * along
        z_step = mu * omega / q - z - z * step
        primal = min(1.0, 0.95 / max(1e-9, -step.min()), 4 / max(1e-9, step.max()))
        dual = min(1.0, 0.95 / max(1e-9, (-z_step / z).max()))
        q, z, s = q * (1 + primal * step), z + dual * z_step, s * math.exp(primal * log_s)
        if min(primal, dual) > 0.3:
            settled = mu <= floor and np.abs(step).max() < 0.1 and abs(log_s) < 1e-4
            # At a weak barrier the weights follow s by small steps only: first bring s near.
            if abs(log_s) < 0.1 and abs(sweep.distortion - goal) < 0.003 * goal:
                mu = max(floor, 0.1 * mu)
    return Reproduction(y, q * (nodes.p.sum() / q.sum()), s, start.iterations + done, bool(settled))
