"""The exact histogram: bit by bit, in buckets, and what it refuses."""

import numpy as np
import pytest
import torch

from empirics import histogram
from empirics.histogram import coarsened, exact


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_is_the_data(tensor: torch.Tensor) -> None:
    values, counts = np.unique(tensor.double().numpy(), return_counts=True)
    found = exact(tensor)
    np.testing.assert_array_equal(found.values, values)
    np.testing.assert_array_equal(found.counts, counts)
    assert found.displacement == 0
    assert not np.signbit(found.values[found.values == 0]).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_every_value_and_its_count(dtype):
    x = normal(300, 41, dtype=dtype)
    x[3, :7], x[4, :5] = 0.0, -0.0
    assert_is_the_data(x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_finite_bit_pattern(dtype):
    x = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    assert_is_the_data(x[x.isfinite()])


def test_chunks_of_any_size_and_strided_views(monkeypatch):
    monkeypatch.setattr(histogram, "CHUNK", 1000)
    assert_is_the_data(normal(77, 131, dtype=torch.bfloat16))
    assert_is_the_data(normal(77, 131, dtype=torch.bfloat16).T[::3])


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_a_widened_tensor_is_exact_at_any_size(monkeypatch, kind):
    """float32 that a 16-bit type can hold is exact; one value that it cannot hold, in the last chunk, is found."""
    monkeypatch.setattr(histogram, "CHUNK", 2000)
    monkeypatch.setattr(histogram, "SORTED_AT_MOST", 100)
    x = normal(10_001, dtype=kind).float()
    assert_is_the_data(x)
    x[-1] = 1 + 2.0**-20
    assert exact(x).displacement > 0


class TestBuckets:
    @pytest.fixture(params=[torch.float32, torch.float64])
    def weights(self, request, monkeypatch):
        monkeypatch.setattr(histogram, "SORTED_AT_MOST", 100)
        monkeypatch.setattr(histogram, "CHUNK", 7000)
        x = normal(100_000, seed=3).to(request.param) * 0.02
        x[:5] = torch.tensor([0.0, -0.0, 1e-42, 3.0, -3.0])
        return x

    def test_atoms_are_the_means_of_their_buckets(self, weights):
        found, x = exact(weights), weights.double().numpy()
        key = weights.float().numpy().view(np.uint32) >> 12
        _, index, counts = np.unique(key, return_inverse=True, return_counts=True)
        means = np.bincount(index, x) / counts
        assert len(found.values) <= len(means) < len(x) / 2
        assert found.counts.sum() == len(x)
        np.testing.assert_allclose(found.mean, x.mean(), rtol=1e-12)
        naive = np.sqrt(np.mean((x - means[index]) ** 2))
        assert found.displacement == pytest.approx(naive, rel=1e-10)
        assert found.displacement <= 2.0**-12 * np.sqrt(np.mean(x**2))

    @pytest.mark.parametrize("levels", [4, 16, 2**10])
    def test_no_quantizer_errs_by_more_than_the_displacement(self, weights, levels):
        found, x = exact(weights), weights.double().numpy()
        book = np.quantile(x, (np.arange(levels) + 0.5) / levels)

        def rms(points: np.ndarray, p: np.ndarray) -> float:
            nearest = book[np.searchsorted((book[1:] + book[:-1]) / 2, points)]
            return float(np.sqrt(p @ (points - nearest) ** 2))

        true = rms(x, np.full(len(x), 1 / len(x)))
        assert abs(true - rms(found.values, found.probabilities)) <= found.displacement

    def test_refuses_nan(self, weights):
        weights[70_000:70_003] = torch.tensor([float("nan"), float("inf"), -float("inf")])
        with pytest.raises(ValueError, match=r"^q_proj: 3 of 100000 weights are NaN or infinite$"):
            exact(weights, "q_proj")


class TestCoarsened:
    @pytest.fixture(scope="class")
    def found(self):
        return exact(torch.cat([0.02 * normal(200_000, seed=3), torch.tensor([2.0])]))

    @pytest.mark.parametrize("atoms", [1, 2, 100, 2**13])
    def test_mass_mean_and_displacement(self, found, atoms):
        coarse = coarsened(found, atoms)
        assert len(coarse.values) <= atoms
        assert coarse.counts.sum() == found.counts.sum()
        np.testing.assert_allclose(coarse.mean, found.mean, rtol=1e-12)
        # Each atom is the mean of the run that it took, so what it lost in variance is what moved.
        for merged in (coarse, coarsened(coarse, max(1, atoms // 3))):
            moved = np.hypot(found.displacement, np.sqrt(found.variance - merged.variance))
            assert merged.displacement == pytest.approx(moved, rel=1e-6)

    def test_buckets_follow_the_density(self, found):
        """Panter and Dite's constant for Gaussian levels, 2.72 / N**2; a weight 100 deviations out takes a tenth."""
        assert coarsened(found, 2**10).displacement / 0.02 < 1.12 * np.sqrt(2.7207) / 2**10

    def test_few_atoms_stay(self, found):
        assert coarsened(found, len(found.values)) is found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_refuses_nan_and_infinity_and_counts_them(dtype):
    x = normal(50, 40, dtype=dtype)
    x[7, 3], x[8, 3], x[49, 39] = float("nan"), float("inf"), -float("inf")
    with pytest.raises(ValueError, match=r"^layer: 3 of 2000 weights are NaN or infinite$"):
        exact(x, "layer")


@pytest.mark.parametrize("value", [0.0, -0.0, -1.5, 0.1])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_constant_tensor_is_one_atom(value, dtype):
    found = exact(torch.full((3, 5), value, dtype=dtype))
    assert found.values.tolist() == [float(torch.tensor(value, dtype=dtype))]
    assert found.counts.tolist() == [15]


def test_refuses_what_is_no_weight():
    with pytest.raises(TypeError, match=r"qweight is of dtype torch.int32.*dequantize"):
        exact(torch.ones(3, dtype=torch.int32), "qweight")
    with pytest.raises(ValueError, match=r"bias is empty: shape \(0, 4\)"):
        exact(torch.ones(0, 4), "bias")
