"""k-means, product quantization and lattices: against numpy, one another and the theory."""

import itertools
import math

import numpy as np
import pytest
import torch

from empirics import lattice_quantizers as lq
from empirics import vector_quantizers as vq
from empirics.histogram import exact
from empirics.scalar_quantizers import lloyd_max_levels
from tests.tolerances import STANDARD_ERRORS, SUM, close
from theory.lattices import LATTICES, nearest_point, second_moment, space_filling_loss
from theory.shannon import distortion_lower_bound
from theory.sources import GGD

CELL_VOLUME = {"D4": 2, "E8": 1}
# Bits by which the curvature of the density over a cell moves the gap at 5 bits; it is 0.004 for E8 at 4.
CURVATURE = 0.002
# What k-means leaves when its centres move by 1e-3 of a standard deviation, and a local optimum beside the optimum.
SETTLED = 1e-3


def gaussian(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


def squares(x: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Per weight, to the nearest of all code vectors."""
    return ((x[:, None] - codebook) ** 2).mean(axis=2).min(axis=1)


class TestLattices:
    @pytest.mark.parametrize("name", ["D4", "E8"])
    def test_high_rate(self, name):
        """G V**(2/d) times the scale squared, and the space-filling loss above Shannon's bound."""
        q = lq.lattice(gaussian(400_000), name, 5.0)
        expected = second_moment(name, float(CELL_VOLUME[name])) * q.scale**2
        assert q.mse == close(expected, abs=STANDARD_ERRORS * q.mse_error)
        gap = q.index_bits - math.log2(1 / q.mse) / 2
        error = math.hypot(q.index_error, q.mse_error / q.mse / (2 * math.log(2)))
        assert gap == close(space_filling_loss(name), abs=STANDARD_ERRORS * error + CURVATURE)
        assert q.index_bits == close(5.0, abs=0.02)

    @pytest.mark.parametrize(("name", "rate"), [("D4", 0.7), ("D4", 3.0), ("E8", 1.5)])
    def test_the_tensor_by_itself(self, name, rate):
        x = gaussian(10_001, seed=2)
        q = lq.lattice(x, name, rate)
        d = LATTICES[name].dimension
        v = x.double().numpy()[: 10_001 // d * d].reshape(-1, d)
        points = nearest_point(name, v / q.scale)
        assert q.mse == close(np.mean((v - q.scale * points) ** 2), rel=SUM)
        assert (q.evaluated, q.weights, q.dimension) == (len(v), 10_001, d)
        counts = np.unique(points, axis=0, return_counts=True)[1]
        bits, error, _ = lq._product_code(points)
        assert (q.index_bits * d, q.index_error * d) == (close(bits, rel=SUM), close(error, rel=SUM))
        assert q.coverage == close(1 - np.sum(counts == 1) / len(v), abs=1e-15)
        p = counts / len(v)
        assert q.entropy * d == close(-p @ np.log2(p) + (len(p) - 1) / (2 * len(v) * math.log(2)), rel=SUM)

    @pytest.mark.parametrize("name", ["D4", "E8"])
    def test_the_code_is_an_upper_bound_of_the_entropy(self, name):
        """Where the points are covered the entropy is known, and no code is shorter."""
        for rate in (0.3, 0.8):
            q = lq.lattice(gaussian(400_000), name, rate)
            assert q.coverage > 0.98
            assert q.entropy < q.index_bits + STANDARD_ERRORS * q.index_error

    def test_code_of_independent_coordinates(self):
        """Points that do have independent coordinates but for the parity: the code is the entropy, known exactly."""
        rng = np.random.default_rng(0)
        free = rng.integers(0, 4, (20_000, 7))
        last = 2 * rng.integers(0, 2, 20_000) + free.sum(axis=1) % 2
        half = rng.integers(0, 2, 20_000) / 2
        points = np.column_stack([free, last]) + half[:, None]
        bits, error, entries = lq._product_code(points)
        # 14 bits of the free coordinates, 1 of the last and 1 of the translate.
        assert bits == close(16.0, abs=2e-3)
        assert entries == 8
        assert error < 1e-3

    def test_standard_error_of_the_code(self):
        """The scatter over 200 draws, itself known to 5 %."""
        draws = np.random.default_rng(0).normal(size=(200, 500, 4))
        found = np.array([lq._product_code(nearest_point("D4", x))[:2] for x in draws])
        assert found[:, 1].mean() == close(found[:, 0].std(), rel=0.2)

    def test_entropy_estimate_of_a_known_law(self):
        """Mean over many draws within its standard error of the truth, where plain plug-in is not; and its error."""
        p = np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.05])
        truth = -p @ np.log2(p)
        counts = np.random.default_rng(0).multinomial(300, p, size=4000)
        found = np.array([lq.index_entropy(c[c > 0]) for c in counts])
        spread = found[:, 0].std()
        assert found[:, 0].mean() == close(truth, abs=STANDARD_ERRORS * spread / math.sqrt(4000))
        assert np.sqrt((found[:, 1] ** 2).mean()) == close(spread, rel=0.03)

    def test_balls_are_the_theta_series(self):
        """1 + 24 q + 24 q**2 + 96 q**3 ... and 1 + 240 q + 2160 q**2 + 6720 q**3 ... [ConwaySloane1999]"""
        for name, shells in (("D4", [1, 24, 24, 96, 24, 144]), ("E8", [1, 240, 2160, 6720])):
            for size in itertools.accumulate(shells):
                points = lq.ball(name, size)
                assert len(points) == len(np.unique(points, axis=0)) == size
                np.testing.assert_array_equal(nearest_point(name, points), points)
                assert len(lq.ball(name, size + 1)) == size

    def test_ball_against_every_point(self):
        x = gaussian(4000)
        q = lq.ball_lattice(x, "D4", 1.5)
        _, held_out = vq.sampled(vq.vectors(x, 4), 0)
        assert q.mse == close(squares(held_out, q.scale * lq.ball("D4", 64)).mean(), rel=1e-12)
        for factor in (0.8, 0.95, 1.05, 1.2):
            train, _ = vq.sampled(vq.vectors(x, 4), 0)
            assert squares(train, factor * q.scale * lq.ball("D4", 64)).mean() > q.training_mse
        assert q.index_bits == math.log2(49) / 4


class TestClusters:
    def test_in_one_dimension_it_is_lloyd_max(self):
        """On the vectors that it was trained on, where Lloyd-Max is the optimum."""
        x = gaussian(20_000)
        train, _ = vq.sampled(vq.vectors(x, 1), 0)
        best = lloyd_max_levels(exact(torch.from_numpy(train)), 3)
        q = vq.kmeans(x, 1, 3)
        assert q.status == "converged"
        assert best.mse * (1 - SUM) <= q.training_mse < best.mse * (1 + SETTLED)

    def test_product_of_scalars(self):
        """Sub-vectors of one weight: scalar k-means of each column, at the mean of their errors."""
        x = gaussian(20_000)
        q = vq.product(x, 2, 2, 3)
        columns = [vq.kmeans(x[i::2], 1, 3) for i in range(2)]
        assert q.mse == close(np.mean([c.mse for c in columns]), rel=1e-12)
        assert q.training_mse == close(np.mean([c.training_mse for c in columns]), rel=1e-12)
        assert (q.index_bits, q.parameters) == (3.0, 16)

    def test_a_product_tells_its_parts_apart(self):
        """Columns of scales 1 and 10: a codebook each serves both, the notebook's split of the set neither."""
        x = (gaussian(40_000).view(-1, 2) * torch.tensor([1.0, 10.0])).flatten()
        proper, notebook = vq.product(x, 2, 2, 2), vq.notebook_product(x, 2, 4)
        assert proper.index_bits == notebook.index_bits == 2
        assert proper.mse == close(0.1175 * (1 + 100) / 2, abs=STANDARD_ERRORS * proper.mse_error + 0.05)
        assert notebook.parameters == 4 * 16 * 2

    def test_notebook_product_is_its_interleaved_sets(self):
        """No sub-vectors: k-means of every fourth vector."""
        x = gaussian(16_000)
        q = vq.notebook_product(x, 2, 3)
        parts = [vq.kmeans(x.view(-1, 2)[i::4].flatten(), 2, 3) for i in range(4)]
        assert q.mse == close(np.mean([p.mse for p in parts]), rel=1e-12)
        assert (q.evaluated, q.index_bits) == (sum(p.evaluated for p in parts), 1.5)
        errors = [p.mse_error for p in parts]
        assert q.mse_error == close(math.sqrt(np.square(errors).sum()) / 4, rel=0.05)

    def test_held_out_error_exceeds_training_error(self):
        runs = [vq.kmeans(gaussian(8000, seed), 4, 6, seed) for seed in range(12)]
        excess = np.array([run.mse - run.training_mse for run in runs])
        assert excess.mean() > STANDARD_ERRORS * excess.std() / math.sqrt(len(excess))

    def test_held_out_vectors_are_others(self):
        x = np.arange(1001.0)[:, None]
        train, held_out = vq.sampled(x, 3)
        assert len(train) == 501
        assert sorted(np.concatenate([train, held_out])[:, 0]) == list(range(1001))
        many = vq.sampled(np.arange(200_000.0)[:, None], 0)
        assert [len(part) for part in many] == [2**15, 2**15]
        assert not np.intersect1d(*many).size

    def test_codebook_is_counted(self):
        q = vq.kmeans(gaussian(8000), 4, 6)
        assert (q.index_bits, q.parameters) == (1.5, 256)
        assert q.effective_bits == close(1.5 + 32 * 256 / 8000, rel=SUM)


@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_passes_the_shannon_bound(seed):
    x = gaussian(100_000, seed)
    found = [vq.kmeans(x, d, 6) for d in (2, 4, 8)] + [vq.product(x, 4, 2, 4), vq.notebook_product(x, 4, 4)]
    found += [lq.lattice(x, name, rate) for name in ("D4", "E8") for rate in (0.5, 2.0, 6.0)]
    found += [lq.ball_lattice(x, "D4", 2.0), lq.ball_lattice(x, "E8", 1.0)]
    for q in found:
        bound = distortion_lower_bound(GGD(2.0), q.index_bits)
        assert q.mse + STANDARD_ERRORS * q.mse_error > bound, q.name
        assert q.effective_bits > q.index_bits


def test_what_is_refused():
    x = gaussian(400)
    for bad, message in (
        (lambda: vq.kmeans(x, 0, 2), "dimension = 0"),
        (lambda: vq.kmeans(x, 2, 0), "codebook_bits = 0"),
        (lambda: vq.kmeans(x, 2, 7), "128 clusters of 100 training"),
        (lambda: vq.kmeans(x[:3], 4, 1), "fewer than the dimension"),
        (lambda: vq.kmeans(x[:2], 2, 1), "1 vector"),
        (lambda: vq.product(x, 4, 3, 2), "parts = 3"),
        (lambda: vq.notebook_product(x, 4, 2, 0), "codebooks = 0"),
        (lambda: vq.vectors(torch.tensor([1.0, math.nan]), 1, "w"), "w: 1 of 2 weights are NaN"),
        (lambda: lq.lattice(x, "E7", 1.0), "did you mean|E7"),
        (lambda: lq.lattice(x, "E8", 0.0), "rate = 0"),
        (lambda: lq.lattice(torch.ones(80), "E8", 1.0), "constant"),
        (lambda: lq.ball_lattice(x, "E8", 0.5), "point 0 alone"),
        (lambda: lq.ball_lattice(x, "E8", 3.0), "above 131072"),
        (lambda: lq.ball_lattice(torch.zeros(80), "D4", 1.5), "all 0"),
    ):
        with pytest.raises(ValueError, match=message):
            bad()
