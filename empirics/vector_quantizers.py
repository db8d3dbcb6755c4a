"""Vector quantizers of a tensor with codebooks that are made for it: k-means and product quantization.

The tensor is flattened and cut into vectors of d weights; the last ``numel mod d`` weights are left out. Every
result has the bits of an index, and beside them what its decoder stores: 32 bits a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from empirics.histogram import flattened, refuse_non_finite
from empirics.scalar_quantizers import PARAMETER_BITS
from theory.domain import COUNT, accept

_SAMPLE = 2**15
_ITERATIONS = 300


@dataclass(frozen=True)
class Vector:
    """A vector quantizer of a tensor, and what it does to it.

    Attributes
    ----------
    name : str
    dimension : int
        d, weights per vector.
    mse, mse_error : float
        Mean squared error per weight, in the tensor's units squared, of vectors that the quantizer was not made
        from; and its standard error, over vectors taken as independent.
    index_bits, index_error : float
        Bits per weight of the indices; and the standard error, 0 for indices of fixed length.
    parameters : int
        Numbers that the decoder needs.
    weights : int
        Of the whole tensor: they share the parameters.
    evaluated : int
        Vectors that the error is the mean over.
    training_mse : float
        Mean squared error of the vectors that the quantizer was made from.
    scale : float
        Of a lattice, length that its unit stands for; 1 for the others.
    entropy : float
        Of a lattice, estimated entropy of its points in bits per weight (`empirics.lattice_quantizers`): an
        underestimate where `coverage` is not near 1. NaN for the others.
    coverage : float
        1 less the part of the vectors whose point occurs once: the estimated probability of the points that occur
        (Good and Turing's). NaN for the others.
    status : str
        "converged", or what the search for the codebook or the scale reports.
    """

    name: str
    dimension: int
    mse: float
    mse_error: float
    index_bits: float
    index_error: float
    parameters: int
    weights: int
    evaluated: int
    training_mse: float
    scale: float = 1.0
    entropy: float = math.nan
    coverage: float = math.nan
    status: str = "converged"

    @property
    def effective_bits(self) -> float:
        """Bits per weight with the parameters, 32 bits each."""
        return self.index_bits + PARAMETER_BITS * self.parameters / self.weights


def vectors(tensor: torch.Tensor, dimension: int, name: str = "tensor") -> np.ndarray:
    """Consecutive weights as float64 vectors, of shape (numel // dimension, dimension).

    Raises
    ------
    TypeError
        If the dtype is not floating-point.
    ValueError
        If the dimension is no positive integer, the tensor has fewer weights, or one is NaN or infinite.

    Examples
    --------
    >>> vectors(torch.arange(5.0), 2)
    array([[0., 1.],
           [2., 3.]])
    """
    accept(dimension=(dimension, COUNT))
    flat = flattened(tensor, name)
    refuse_non_finite(int((~flat.isfinite()).sum()), len(flat), name)
    if len(flat) < dimension:
        raise ValueError(f"{name} has {len(flat)} weights: fewer than the dimension {dimension}")
    return flat[: len(flat) // dimension * dimension].double().cpu().numpy().reshape(-1, dimension)


def sampled(x: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Up to 2**15 vectors to make a quantizer from and as many others to evaluate it on, without overlap.

    Raises ValueError if there are fewer than 2.
    """
    if len(x) < 2:
        raise ValueError(f"{len(x)} vector: one to make a quantizer from and another to evaluate it on are needed")
    order = np.random.default_rng(seed).permutation(len(x))
    half = min(_SAMPLE, (len(x) + 1) // 2)
    return x[order[:half]], x[order[half : 2 * half]]


def mean_and_error(squares: np.ndarray) -> tuple[float, float]:
    """Mean, and its standard error for independent draws."""
    return float(squares.mean()), float(squares.std() / math.sqrt(len(squares)))


def _clustered(
    name: str,
    tensor: torch.Tensor,
    dimension: int,
    bits: int,
    split: Callable[[np.ndarray], list[np.ndarray]],
    per_vector: int,
    seed: int,
) -> Vector:
    """k-means of each array of vectors that `split` makes, and the error over all of them held out."""
    from sklearn.cluster import KMeans  # seconds to import

    accept(codebook_bits=(bits, COUNT))
    clusters, trained, tested, parameters, status = 2**bits, [], [], 0, "converged"
    for part in split(vectors(tensor, dimension)):
        train, held_out = sampled(part, seed)
        if len(train) < clusters:
            raise ValueError(f"codebook_bits = {bits}: {clusters} clusters of {len(train)} training vectors")
        # Its own tolerance of 1e-4 stops 0.4 % of the error above where 8 levels of a Gaussian settle.
        model = KMeans(clusters, n_init=3, max_iter=_ITERATIONS, tol=1e-6, random_state=seed).fit(train)
        if model.n_iter_ == _ITERATIONS:
            status = f"k-means moves after {_ITERATIONS} iterations"
        means = model.cluster_centers_
        tree = cKDTree(means)
        trained.append(tree.query(train)[0] ** 2 / part.shape[1])
        tested.append(tree.query(held_out)[0] ** 2 / part.shape[1])
        parameters += means.size
    # The parts of a product are of the same vectors, in the same order: their errors are one draw, not several.
    errors = np.mean(tested, axis=0) if per_vector > 1 else np.concatenate(tested)
    mse, error = mean_and_error(errors)
    return Vector(
        name=name,
        dimension=dimension,
        mse=mse,
        mse_error=error,
        index_bits=per_vector * bits / dimension,
        index_error=0.0,
        parameters=parameters,
        weights=tensor.numel(),
        evaluated=len(errors),
        training_mse=float(np.mean(np.concatenate(trained))),
        status=status,
    )


def kmeans(tensor: torch.Tensor, dimension: int, codebook_bits: int, seed: int = 0) -> Vector:
    """Vector quantizer with a codebook of ``2**codebook_bits`` vectors made by k-means.

    Parameters
    ----------
    tensor : torch.Tensor
        Floating-point, of any shape.
    dimension : int
        Weights per vector.
    codebook_bits : int
        Bits of an index, at least 1.
    seed : int
        Draws the training vectors, at most 2**15 and half of them all, as many others to evaluate the codebook on,
        and the starts of k-means, three.

    Returns
    -------
    Vector
        The whole codebook is among its parameters.

    Raises
    ------
    ValueError
        If there are fewer training vectors than clusters, or as `vectors`.

    Notes
    -----
    k-means finds a local optimum of the training vectors.

    References: [Lloyd1982].

    Examples
    --------
    >>> weights = torch.randn(40_000, generator=torch.Generator().manual_seed(0))
    >>> q = kmeans(weights, 2, 4)
    >>> q.index_bits, q.parameters, 0.10 < q.mse < 0.12
    (2.0, 32, True)
    """
    return _clustered("kmeans", tensor, dimension, codebook_bits, lambda x: [x], 1, seed)


def product(tensor: torch.Tensor, dimension: int, parts: int, codebook_bits: int, seed: int = 0) -> Vector:
    """Product quantization: each vector is cut into `parts`, each of which has a codebook of its own.

    Parameters as `kmeans`; `parts` divides the dimension, and an index is ``parts * codebook_bits`` long. Raises
    what `kmeans` does.

    References: [Jegou2011].

    >>> weights = torch.randn(40_000, generator=torch.Generator().manual_seed(0))
    >>> product(weights, 4, 2, 3).index_bits
    1.5
    """
    accept(dimension=(dimension, COUNT), parts=(parts, COUNT))
    if dimension % parts:
        raise ValueError(f"parts = {parts} does not divide the dimension {dimension}")
    return _clustered("product", tensor, dimension, codebook_bits, lambda x: np.split(x, parts, axis=1), parts, seed)


def notebook_product(
    tensor: torch.Tensor, dimension: int, codebook_bits: int, codebooks: int = 4, seed: int = 0
) -> Vector:
    """The notebook's "product quantization": the i-th vector, whole, uses codebook i mod `codebooks`.

    That is k-means of `codebooks` interleaved sets of vectors, at `codebooks` times the cost of one codebook and, for
    weights that do not depend on i, to no gain. The split is the notebook's; the evaluation is that of `kmeans`.

    Parameters as `kmeans`, and raises what it does.

    >>> weights = torch.randn(40_000, generator=torch.Generator().manual_seed(0))
    >>> notebook_product(weights, 4, 6).index_bits
    1.5
    """
    accept(codebooks=(codebooks, COUNT))

    def split(x: np.ndarray) -> list[np.ndarray]:
        return [x[i::codebooks] for i in range(codebooks)]

    return _clustered("notebook_product", tensor, dimension, codebook_bits, split, 1, seed)
