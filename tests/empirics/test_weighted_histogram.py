"""The weighted histogram: against counting value by value, and the output error that it stands for."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from empirics import histogram, weighted_histogram
from empirics.weighted_histogram import exact
from tests.tolerances import STANDARD_ERRORS, close
from theory.clipping import clip_mse, optimal_clip
from theory.sources import Histogram


def normal(rows: int, columns: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


def weights(columns: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).exponential(size=columns))


def assert_is_the_data(matrix: torch.Tensor, column_weights: torch.Tensor) -> None:
    """One value at a time; its weights are added in another order."""
    x = matrix.double().numpy() + 0.0
    s = np.broadcast_to(column_weights.double().numpy(), x.shape)
    values, index = np.unique(x, return_inverse=True)
    counts = np.zeros(len(values))
    np.add.at(counts, index.ravel(), s.ravel())
    found = exact(matrix, column_weights)
    np.testing.assert_array_equal(found.values, values[counts > 0])
    np.testing.assert_allclose(found.counts, counts[counts > 0], rtol=1e-12)
    assert found.displacement == 0
    assert not np.signbit(found.values[found.values == 0]).any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1000, 2**19])
def test_every_value_and_its_weight(dtype, size, monkeypatch):
    """In chunks of 24 rows, the last of them short, and in one."""
    monkeypatch.setattr(weighted_histogram, "CHUNK", size)
    x = normal(101, 41, dtype=dtype)
    x[3, :7], x[4, :5] = 0.0, -0.0
    assert_is_the_data(x, weights(41))
    assert_is_the_data(x.T[::3], weights(101))
    assert_is_the_data(x, weights(41).float())


def test_a_column_of_weight_0_is_not_there():
    x = torch.tensor([[1.0, 5.0, 2.0], [1.0, 6.0, 1.0]])
    found = exact(x, torch.tensor([0.5, 0.0, 3.0]))
    assert found.values.tolist() == [1.0, 2.0]
    assert found.counts.tolist() == [4.0, 3.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_equal_weights_are_counts(dtype):
    x = normal(64, 50, dtype=dtype)
    plain, found = histogram.exact(x), exact(x, torch.full((50,), 0.25))
    np.testing.assert_array_equal(found.values, plain.values)
    np.testing.assert_array_equal(found.counts, plain.counts / 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_buckets(dtype, monkeypatch):
    """Atoms at the weighted means of their buckets, and the displacement that they cost."""
    monkeypatch.setattr(weighted_histogram, "SORTED_AT_MOST", 100)
    monkeypatch.setattr(weighted_histogram, "CHUNK", 3000)
    x, s = normal(400, 130, seed=3).to(dtype) * 0.02, weights(130)
    s[7] = 0.0
    x[0, :5], x[:, 7] = torch.tensor([0.0, -0.0, 1e-42, 3.0, -3.0]), 9.0
    found = exact(x, s)
    y, p = x.double().numpy().ravel(), np.broadcast_to(s.numpy(), x.shape).ravel()
    _, index = np.unique(x.float().numpy().ravel().view(np.uint32) >> 12, return_inverse=True)
    mass = np.bincount(index, p)
    means = np.divide(np.bincount(index, p * y), mass, out=np.zeros_like(mass), where=mass > 0)
    assert found.values == close(np.unique(means[mass > 0]), rel=1e-12)
    assert found.counts.sum() == close(p.sum(), rel=1e-12)
    moved = np.sqrt(p @ (y - means[index]) ** 2 / p.sum())
    assert found.displacement == close(moved, rel=1e-9)
    assert 0 < found.displacement <= 2.0**-12 * np.sqrt(p @ y**2 / p.sum())

    def rms(points, mass):
        return np.sqrt(mass @ (points - np.round(points * 400) / 400) ** 2 / mass.sum())

    assert abs(rms(y, p) - rms(found.values, found.counts)) <= found.displacement


def test_the_error_of_a_layer_with_uncorrelated_inputs():
    """E|Wx - Q(W)x|**2 by drawing inputs, and by the weighted histogram: exact when the inputs are uncorrelated."""
    w, s = normal(30, 20, seed=5, dtype=torch.bfloat16), weights(20, seed=6)
    atoms = exact(w, s)
    clip = 1.7
    error = np.clip(np.floor(w.double().numpy() / (clip / 4)), -4, 3) + 0.5
    error = error * clip / 4 - w.double().numpy()
    x = np.random.default_rng(7).normal(size=(20_000, 20)) * np.sqrt(s.numpy())
    drawn = np.sum((x @ error.T) ** 2, axis=1)
    expected = clip_mse(clip, atoms, 3) * atoms.counts.sum()
    assert abs(drawn.mean() - expected) < STANDARD_ERRORS * drawn.std() / np.sqrt(len(drawn))
    assert np.sum(s.numpy() * error**2) == close(expected, rel=1e-11)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_best_clip_for_weighted_columns(bits):
    """Outliers in columns that no input uses are clipped, and those in columns that matter are not."""
    x, s = normal(256, 64, seed=8, dtype=torch.bfloat16), torch.ones(64)
    x[:, :4] *= 4.0
    clips = []
    for share in (0.0, 1.0, 100.0):
        s[:4] = share
        atoms = exact(x, s)
        clip, error = optimal_clip(atoms, bits)
        clips.append(clip)
        scan = np.geomspace(0.3, 2, 200) * clip
        y, p = x.double().numpy(), s.double().numpy() / (256 * s.double().sum().item())
        half = 2 ** (bits - 1)
        by_hand = [
            np.sum(p * ((np.clip(np.floor(y * half / c), -half, half - 1) + 0.5) * c / half - y) ** 2) for c in scan
        ]
        assert error <= min(by_hand) * (1 + 1e-12)
        assert error == close(min(by_hand), rel=1e-3)
    assert clips[0] < clips[1] < clips[2]


def test_counts_need_not_be_integers():
    """`optimal_clip` of probabilities is that of the counts."""
    plain = histogram.exact(normal(64, 64, dtype=torch.bfloat16))
    shares = Histogram(plain.values, plain.counts * 0.3717)
    for grid in ("midrise", "symmetric"):
        for bits in (2, 4):
            expected, found = (optimal_clip(h, bits, grid) for h in (plain, shares))
            assert found[1] == close(expected[1], rel=1e-10)
            assert found[0] == close(expected[0], rel=1e-6)


def test_16_million_weights_in_a_second():
    x, s = normal(4096, 4096, dtype=torch.bfloat16), weights(4096)
    start = time.perf_counter()
    exact(x, s)
    assert time.perf_counter() - start < 3  # 0.2 s measured; a busy machine may take longer


@pytest.mark.parametrize(
    ("matrix", "column_weights", "message"),
    [
        (
            torch.ones(3, 4),
            torch.ones(3),
            r"q_proj has shape \(3, 4\) and \(3,\) column weights: give a matrix and one",
        ),
        (torch.ones(4), torch.ones(4), r"q_proj has shape \(4,\) and \(4,\)"),
        (torch.ones(3, 2), torch.tensor([1.0, -1.0]), "column weights of q_proj are not all finite and >= 0"),
        (torch.ones(3, 2), torch.tensor([1.0, float("inf")]), "column weights of q_proj"),
        (torch.ones(3, 2), torch.zeros(2), "or are all 0"),
        (torch.ones(0, 2), torch.ones(2), "q_proj is empty"),
        (
            torch.tensor([[1.0, float("nan")], [float("inf"), 1.0]]),
            torch.tensor([1.0, 0.0]),
            "q_proj: 2 of 4 weights",
        ),
    ],
)
def test_refusals(matrix, column_weights, message):
    with pytest.raises(ValueError, match=message):
        exact(matrix, column_weights, "q_proj")
    with pytest.raises(TypeError, match="dequantize"):
        exact(torch.ones(2, 2, dtype=torch.int8), torch.ones(2))
