r"""Weight matrices of a known law, drawn with a seed, and checkpoints of them: what is measured of them has a truth.

A weight is :math:`\sigma\,r_i\,c_j\,o_{ij}\,z_{ij}`: z from a generalized Gaussian of unit variance, r and c
log-normal scales of its row and column, o larger than 1 for a share of the weights, the outliers. The law of all
weights pooled, and that of a row, are mixtures of scales (`theory.sources.ScaleMixture`), on which everything in
`theory` that takes a source can be computed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from scipy import optimize, special

from empirics.fit import HIGHEST, LOWEST
from empirics.models import CONFIG, INDEX
from theory import block_scaling, ggd
from theory.codebooks import Codebook
from theory.domain import NONNEGATIVE, POSITIVE, Domain, accept
from theory.sources import GGD, ScaleMixture

NODES = 48
"""Of Gauss-Hermite quadrature over the logarithm of a scale."""


@dataclass(frozen=True)
class Law:
    r"""The law of the weights of a matrix.

    Parameters
    ----------
    beta : float
        Exponent of z, > 0: 2 Gaussian, 1 Laplace.
    sigma : float
        Standard deviation of a weight of which r, c and o are 1.
    rows, columns : float
        Standard deviation of :math:`\ln r` and :math:`\ln c`, >= 0; r and c have median 1.
    outliers, size : float
        Share of the weights with o = `size` instead of 1, in [0, 1), and that o.

    Raises
    ------
    ValueError
        If a parameter is outside its domain.

    Notes
    -----
    Rows, columns and weights are drawn anew with each matrix: the truth is that of the law, not of the scales drawn.

    Examples
    --------
    >>> law = Law(beta=1.8, rows=0.3)
    >>> round(law.marginal_beta, 4), round(law.kurtosis, 4), round(law.row_spread, 4)
    (1.354, 4.633, 0.1298)
    """

    beta: float = 2.0
    sigma: float = 0.02
    rows: float = 0.0
    columns: float = 0.0
    outliers: float = 0.0
    size: float = 5.0

    def __post_init__(self) -> None:
        positive = {name: (getattr(self, name), POSITIVE) for name in ("beta", "sigma", "size")}
        spreads = {name: (getattr(self, name), NONNEGATIVE) for name in ("rows", "columns")}
        accept(outliers=(self.outliers, Domain(0, 1, low_open=False)), **positive, **spreads)

    def draw(self, rows: int, columns: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A matrix of that shape. One seed gives the same weights in every dtype, rounded to it."""
        rng = np.random.default_rng(seed)
        r, c = np.exp(self.rows * rng.standard_normal(rows)), np.exp(self.columns * rng.standard_normal(columns))
        out = torch.empty(rows, columns, dtype=dtype)
        unit = self.sigma * float(ggd.alpha(self.beta))
        for row, scale in zip(out, r, strict=True):  # no temporary as large as the matrix
            z = rng.standard_gamma(1 / self.beta, columns) ** (1 / self.beta) * rng.choice([-unit, unit], columns)
            o = np.where(rng.random(columns) < self.outliers, self.size, 1.0) if self.outliers else 1.0
            row.copy_(torch.from_numpy(scale * c * o * z))
        return out

    def _mixture(self, spread: float) -> ScaleMixture:
        """Of log-normal scales, `spread` the standard deviation of their logarithm, and outliers."""
        scales, shares = np.array([self.sigma]), np.ones(1)
        if spread:
            nodes, shares = special.roots_hermitenorm(NODES)
            scales, shares = self.sigma * np.exp(spread * nodes), shares / shares.sum()
        if self.outliers:
            scales = np.concatenate([scales, self.size * scales])
            shares = np.concatenate([(1 - self.outliers) * shares, self.outliers * shares])
        return ScaleMixture(GGD(self.beta), scales, shares)

    @property
    def marginal(self) -> ScaleMixture:
        """The law of a weight."""
        return self._mixture(math.hypot(self.rows, self.columns))

    @property
    def within_row(self) -> ScaleMixture:
        """The law of a weight of a row whose scale r is 1."""
        return self._mixture(self.columns)

    @property
    def marginal_beta(self) -> float:
        r"""Exponent of the generalized Gaussian that is nearest to the marginal law in Kullback-Leibler divergence.

        It is what the maximum-likelihood estimate converges to.
        """
        return _nearest_exponent(self.marginal)

    @property
    def row_beta(self) -> float:
        """The same within long rows. It is `beta` unless there are columns or outliers."""
        return _nearest_exponent(self.within_row)

    @property
    def kurtosis(self) -> float:
        """Fourth moment of the marginal law over the squared second."""
        return _kurtosis(self.marginal)

    @property
    def divergence(self) -> float:
        """Kullback-Leibler divergence of the marginal law from the Gaussian of its variance, in bits."""
        law = self.marginal
        return math.log2(2 * math.pi * math.e * law.variance) / 2 - law.entropy()

    @property
    def row_spread(self) -> float:
        r"""1/2 log2(AM/GM) of the rows' variances, :math:`\tau^2/\ln 2` for :math:`\ln r` of deviation tau."""
        return self.rows**2 / math.log(2)

    @property
    def column_spread(self) -> float:
        """The same of columns."""
        return self.columns**2 / math.log(2)

    def beyond(self, deviations: float) -> float:
        """Share of the weights further than that many standard deviations of the marginal law from 0."""
        law = self.marginal
        return 2 * float(law.cdf(-deviations * math.sqrt(law.variance)))

    def block_mse(self, codebook: Codebook, block_size: int) -> float:
        """Mean squared error of blocks within rows under their largest magnitude, in units of the marginal variance.

        Raises
        ------
        ValueError
            If the columns have scales of their own: the weights of a block are then of different laws.
        """
        law = self._within_block()
        return float(block_scaling.mse(codebook, block_size, law)) / law.variance

    def absmax_mean(self, block_size: int) -> float:
        """Mean of the largest magnitude of such blocks, in standard deviations of the marginal law.

        Raises ValueError as `block_mse` does.
        """
        law = self._within_block()
        mean = float(block_scaling.absmax_mean(block_size, law)) * math.exp(self.rows**2 / 2)
        return mean / math.sqrt(self.marginal.variance)

    def _within_block(self) -> ScaleMixture:
        if self.columns:
            raise ValueError("columns have scales of their own: the weights of a block are not of one law")
        return self.within_row


def _kurtosis(law: ScaleMixture) -> float:
    second, fourth = (law.weights @ law.scales**k for k in (2, 4))
    return float(fourth / second**2 * ggd.kurtosis(law.source.beta))


def _nearest_exponent(law: ScaleMixture) -> float:
    """Of a generalized Gaussian with free scale: the maximum of the expected log-likelihood."""
    if len(law.scales) == 1:
        return float(law.source.beta)

    def loss(beta: float) -> float:
        moment = law.weights @ law.scales**beta * float(ggd.abs_moment(beta, law.source.beta))
        return (math.log(beta * moment) + 1) / beta - math.log(beta / 2) + float(special.gammaln(1 / beta))

    found = optimize.minimize_scalar(loss, bounds=(LOWEST, HIGHEST), method="bounded", options={"xatol": 1e-9})
    return float(found.x)


def checkpoint(
    folder: Path, matrices: Mapping[str, tuple[Law, tuple[int, int]]], seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Path:  # fmt: skip
    """Write a checkpoint that `quantgap` measures: a shard for each matrix, and their index, one in memory at a time.

    Parameters
    ----------
    folder : Path
        Created if need be.
    matrices : mapping
        Parameter name to law and shape. Names as in a model's own files give the matrices a role and a layer:
        "model.layers.0.mlp.up_proj.weight".
    seed : int
        Of the first matrix; the next has one more.
    dtype : torch.dtype

    Returns
    -------
    Path
        The folder.

    Examples
    --------
    >>> import tempfile
    >>> from empirics.models import open_checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = checkpoint(Path(folder), {"model.layers.0.mlp.up_proj.weight": (Law(), (8, 64))})
    ...     len(open_checkpoint(folder).files)
    1
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = {name: f"model-{i:05}-of-{len(matrices):05}.safetensors" for i, name in enumerate(matrices, 1)}
    for i, (name, (law, shape)) in enumerate(matrices.items()):
        save_file({name: law.draw(*shape, seed + i, dtype)}, folder / shards[name])
    (folder / INDEX).write_text(json.dumps({"weight_map": shards}))
    (folder / CONFIG).write_text(json.dumps({"architectures": [], "model_type": "synthetic"}))
    return folder
