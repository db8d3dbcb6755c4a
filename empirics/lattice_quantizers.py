r"""Lattice quantizers of a tensor: D4 and E8, scaled, with entropy coding or cut down to a ball.

At high rate entropy coding leaves the space-filling loss, 0.14 bit above the Shannon lower bound for E8
(`theory.lattices.space_filling_loss`). A ball has indices of fixed length and overload outside it.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from scipy import optimize
from scipy.spatial import cKDTree

from empirics.vector_quantizers import Vector, mean_and_error, sampled, vectors
from theory.domain import COUNT, POSITIVE, accept, unknown
from theory.lattices import LATTICES, nearest_point

_DECODED = ("D4", "E8")
_LARGEST_BALL = 2**17


def index_entropy(counts: np.ndarray) -> tuple[float, float]:
    r"""Entropy in bits of an index that was seen `counts` times, and its standard error.

    .. math:: \hat H = -\sum_k \hat p_k\log_2\hat p_k + \frac{K-1}{2N\ln2}, \qquad
              \mathrm{se}^2 = \frac1N \mathrm{Var}_{\hat p}(\log_2\hat p_k)

    The plug-in estimate with the correction of its bias to first order (Miller and Madow's), for N draws that fell
    into K bins. It needs N well above K: no plug-in estimate passes log2 N.

    Parameters
    ----------
    counts : array of int
        At least 1 each.

    Examples
    --------
    >>> entropy, error = index_entropy(np.array([512, 512]))
    >>> round(entropy, 6), error
    (1.000704, 0.0)
    """
    n = counts.sum()
    p, surprise = counts / n, -np.log2(counts / n)
    mean = p @ surprise
    return float(mean + (len(p) - 1) / (2 * n * math.log(2))), math.sqrt(p @ (surprise - mean) ** 2 / n)


def _product_code(points: np.ndarray) -> tuple[float, float, int]:
    """Bits per vector of a code for points of D4 or E8 coordinate by coordinate, standard error, probabilities kept.

    A point is integers of even sum, or for E8 such integers plus 1/2. One table serves every coordinate, given the
    translate, and the parity of the last coordinate is known from the others and saved. What this costs can be
    estimated from tables of a few hundred entries, whereas the joint entropy of 8 coordinates at 4 bits could not be
    from 2**32 vectors; at high rate the two agree for independent weights.
    """
    translate = points[:, 0] % 1 > 0
    bits, entries = np.zeros(len(points)), 0
    correction = 0.0
    for shifted in (False, True):
        chosen = np.rint(points[translate == shifted] - 0.5 * shifted).astype(np.int64)
        if not chosen.size:
            continue
        _, index, counts = np.unique(chosen, return_inverse=True, return_counts=True)
        _, parity, halves = np.unique(chosen[:, -1] % 2, return_inverse=True, return_counts=True)
        surprise = -np.log2(counts / counts.sum())[index.reshape(chosen.shape)].sum(axis=1)
        saved = -np.log2(halves / len(chosen))[parity]
        bits[translate == shifted] = surprise - saved - math.log2(len(chosen) / len(points))
        # Miller and Madow's, of every coordinate: each is coded with the table estimated from all of them.
        correction += (len(counts) - 1) / (2 * math.log(2)) - (len(halves) - 1) / (2 * math.log(2))
        entries += len(counts)
    mean = bits.mean() + correction / len(points)
    return float(mean), float(bits.std() / math.sqrt(len(points))), entries


def lattice(tensor: torch.Tensor, name: str, rate: float, seed: int = 0) -> Vector:
    """Scaled lattice whose points are entropy-coded, about `rate` bits per weight; every point may occur.

    Parameters
    ----------
    tensor : torch.Tensor
        Floating-point, of any shape.
    name : str
        "D4" or "E8".
    rate : float
        Bits per weight, > 0: the scale is solved on 2**15 vectors at most, to have this code length there.
    seed : int
        Draws those vectors.

    Returns
    -------
    Vector
        Over all vectors. `index_bits` is the length of a code that exists, coordinate by coordinate with one table:
        an upper bound on the entropy, and near it at high rate; the table and the scale are its parameters. `entropy`
        estimates the entropy itself, where `coverage` is near 1.

    Raises
    ------
    ValueError
        If the lattice is neither, the rate is not positive or no scale reaches it, or as `vectors`.

    Notes
    -----
    A vector goes to its nearest point, which the decoder puts out. At low rate it would gain from weighing the bits
    and from centroids: for Gaussian weights E8 stays 0.42 bit above Shannon's bound at 1 bit, 0.21 at 2, and 0.150
    at 4 bits, where its space-filling loss is 0.146. 400,000 weights take 0.2 to 0.7 s on one core.

    References: [ConwaySloaneDecoding1982] for the nearest points.

    Examples
    --------
    >>> weights = torch.randn(40_000, generator=torch.Generator().manual_seed(0))
    >>> q = lattice(weights, "E8", 4.0)
    >>> round(q.index_bits, 1), bool(q.coverage < 0.1)
    (4.0, True)
    """
    if name not in _DECODED:
        raise unknown("lattice quantizer", name, _DECODED)
    _, rate = accept(rate=(rate, POSITIVE))
    d = LATTICES[name].dimension
    x = vectors(tensor, d)
    sample, sigma = sampled(x, seed)[0], float(x.std())
    if sigma == 0:
        raise ValueError(f"rate = {rate} bits: a constant tensor has none")

    def excess(log_scale: float) -> float:
        return _product_code(nearest_point(name, sample / math.exp(log_scale)))[0] / d - rate

    middle = math.log(sigma * math.sqrt(2 * math.pi * math.e)) - rate * math.log(2)
    low, high = middle - 2, middle + 2
    if not excess(low) > 0 > excess(high):
        raise ValueError(f"rate = {rate} bits: no scale reaches it on a sample of {len(sample)} vectors")
    scale = math.exp(optimize.brentq(excess, low, high, xtol=1e-6))
    points = nearest_point(name, x / scale)
    mse, error = mean_and_error(((scale * points - x) ** 2).mean(axis=1))
    bits, bits_error, entries = _product_code(points)
    _, counts = np.unique(points, axis=0, return_counts=True)
    return Vector(
        name=name,
        dimension=d,
        mse=mse,
        mse_error=error,
        index_bits=bits / d,
        index_error=bits_error / d,
        parameters=1 + entries,
        weights=tensor.numel(),
        evaluated=len(x),
        training_mse=mse,
        scale=scale,
        entropy=index_entropy(counts)[0] / d,
        coverage=float(1 - (counts == 1).sum() / len(x)),
    )


def ball(name: str, size: int) -> np.ndarray:
    """The points of D4 or E8 in the largest ball about 0 that holds at most `size` of them, by norm.

    Parameters
    ----------
    name : str
        "D4" or "E8".
    size : int
        From 1 to 2**17.

    Returns
    -------
    array of shape (points, d)

    Examples
    --------
    >>> len(ball("D4", 255)), len(ball("E8", 255))
    (169, 241)
    """
    if name not in _DECODED:
        raise unknown("lattice quantizer", name, _DECODED)
    _, size = accept(size=(size, COUNT))
    if size > _LARGEST_BALL:
        raise ValueError(f"size = {size} is above {_LARGEST_BALL} points")
    d, found = LATTICES[name].dimension, np.zeros((1, LATTICES[name].dimension))
    for norm in itertools.count(2, 2):  # squared; both lattices are even
        points = np.concatenate([_within(d, norm, 0.5 * half) for half in range(1 + (name == "E8"))])
        if len(points) > size:
            return found
        found = points
    raise AssertionError("every ball is finite, and they grow without bound")


def _within(d: int, norm: int, offset: float) -> np.ndarray:
    """Integers of even sum, plus the offset, of squared norm at most `norm`."""
    reach = math.isqrt(norm) + 1
    axis = np.arange(-reach, reach + 1) + offset
    points = np.zeros((1, 0))
    for _ in range(d):
        grown = np.concatenate([np.repeat(points, len(axis), 0), np.tile(axis, len(points))[:, None]], axis=1)
        points = grown[(grown**2).sum(axis=1) <= norm]
    return points[(points - offset).sum(axis=1) % 2 == 0]


def ball_lattice(tensor: torch.Tensor, name: str, rate: float, seed: int = 0) -> Vector:
    """Scaled lattice cut down to a ball, indices of fixed length, to the nearest point of the ball.

    Parameters
    ----------
    tensor, name, seed
        As `lattice`.
    rate : float
        Bits per weight at most, > 0: the ball has at most ``2**(d rate)`` points, up to 2**17.

    Returns
    -------
    Vector
        `index_bits` is log2 of the number of points over d. The scale is a local minimum of the error
        on up to 4096 training vectors, from 1/8 to 8 times the one that spreads the ball over the mean square.

    Raises
    ------
    ValueError
        As `lattice` and `ball`, or if there are fewer than 2 vectors, or those to train on are all 0.

    Examples
    --------
    >>> weights = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    >>> q = ball_lattice(weights, "D4", 1.5)
    >>> round(q.index_bits, 4), 0.20 < q.mse < 0.22
    (1.4037, True)
    """
    _, rate = accept(rate=(rate, POSITIVE))
    points = ball(name, int(2 ** (rate * LATTICES[name].dimension)))
    if len(points) == 1:
        raise ValueError(f"rate = {rate} bits is too small: the ball of {name} has the point 0 alone")
    train, held_out = sampled(vectors(tensor, points.shape[1]), seed)
    if not train.any():
        raise ValueError("no scale: the training vectors are all 0")
    tree, middle = cKDTree(points), math.log(math.sqrt((train**2).mean()) / points.std())

    def squares(x: np.ndarray, scale: float) -> np.ndarray:
        return scale**2 * tree.query(x / scale)[0] ** 2 / points.shape[1]

    few = train[:4096]
    ends = (middle - math.log(8), middle + math.log(8))
    found = optimize.minimize_scalar(
        lambda t: squares(few, math.exp(t)).mean(), bounds=ends, method="bounded", options={"xatol": 1e-3}
    )
    scale, ended = math.exp(found.x), "converged" if found.success else str(found.message)
    mse, error = mean_and_error(squares(held_out, scale))
    return Vector(
        name=f"{name}_ball",
        dimension=points.shape[1],
        mse=mse,
        mse_error=error,
        index_bits=math.log2(len(points)) / points.shape[1],
        index_error=0.0,
        parameters=1,
        weights=tensor.numel(),
        evaluated=len(held_out),
        training_mse=float(squares(few, scale).mean()),
        scale=scale,
        status=ended,
    )
