"""Scalar quantizers on a histogram against the tensor itself, element by element."""

import math

import numpy as np
import pytest
import torch

from empirics import scalar_quantizers as sq
from empirics.histogram import coarsened, exact
from tests.tolerances import SUM, close
from theory import rate_distortion
from theory.clipping import clip_mse
from theory.entropy_coded import optimal_ecsq
from theory.scalar import ecsq
from theory.sources import GGD, Histogram

# clip_mse is a difference of partial moments: its own promise.
CLIP_MSE = 1e-10
# The notebook computes in float32: at 8 bits a level 128 steps out is off by 128 * 2**-24 of a step.
FLOAT32 = 2e-5
# 200,001 quantiles leave out of each tail what lies beyond 1 in 400,000: 3e-6 of the variance, 3e-4 of 0.0095.
QUANTILES = 5e-4
BITS = range(1, 9)


@pytest.fixture(scope="module")
def weights() -> torch.Tensor:
    """Skewed: the least weight, the greatest and the mean differ in magnitude."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_001, generator=generator)
    return (0.02 * x - 0.003 * x**2 + 0.001).bfloat16()


@pytest.fixture(scope="module")
def source(weights) -> Histogram:
    return exact(weights)


@pytest.fixture(scope="module")
def swept(source) -> dict[tuple[str, int], sq.Scalar]:
    return {(q.name, q.nominal_bits): q for q in sq.sweep(source)}


def element_by_element(x: np.ndarray, q: sq.Scalar) -> tuple[np.ndarray, np.ndarray]:
    """Index of each weight, by comparing it with every threshold, and its reproduction."""
    index = (x[:, None] > q.thresholds).sum(axis=1)
    return index, q.levels[index]


def test_every_error_is_that_of_the_tensor(weights, swept):
    x = weights.double().numpy()
    assert len(swept) == 8 * len(sq.QUANTIZERS)
    for (name, bits), q in swept.items():
        index, values = element_by_element(x, q)
        assert q.mse == close(np.mean((x - values) ** 2), rel=SUM), (name, bits)
        assert q.weights == x.size
        if name != "entropy_coded":
            nearest = np.abs(x[:, None] - q.levels).min(axis=1)
            assert q.mse == close(np.mean(nearest**2), rel=SUM), (name, bits)
            continue
        p = np.unique(index, return_counts=True)[1] / x.size
        assert q.index_bits == close(-p @ np.log2(p), rel=1e-9)
        centroids = [x[index == i].mean() for i in range(len(q.levels))]
        np.testing.assert_allclose(q.levels, centroids, rtol=1e-9, atol=1e-15)
        assert q.index_bits == close(bits, abs=0.03)


def formulas(x: np.ndarray, bits: int) -> dict[str, np.ndarray]:
    """The uniform quantizers by rounding, as one would write them for a tensor."""
    n, top, three = 2**bits, np.abs(x).max(), 3 * x.std()
    step = (x.max() - x.min()) / (n - 1)

    def midrise(clip: float) -> np.ndarray:
        width = 2 * clip / (n - 1)
        k = np.clip(np.floor(x / width), -n // 2, n // 2 - 1)
        return (k + 0.5) * width

    return {
        "asymmetric": np.round((x - x.min()) / step) * step + x.min(),
        "symmetric": midrise(top),
        "notebook_symmetric": np.round(x / (2 * top / (n - 1))) * (2 * top / (n - 1)),
        "clipped_3_sigma": midrise(three),
    }


@pytest.mark.parametrize("bits", BITS)
def test_uniform_quantizers_are_the_roundings(weights, swept, bits):
    x = weights.double().numpy()
    for name, values in formulas(x, bits).items():
        assert swept[name, bits].mse == close(np.mean((x - values) ** 2), rel=1e-10), name


@pytest.mark.parametrize("bits", BITS)
def test_notebook_symmetric_is_the_notebook(weights, swept, bits):
    """The notebook's own lines, in its float32."""
    flat = weights.float().numpy()
    scale = (2 * float(np.max(np.abs(flat)))) / (2**bits - 1)
    quantized = np.round(flat / scale) * scale
    q = swept["notebook_symmetric", bits]
    assert q.mse == close(float(np.mean((flat.astype(float) - quantized) ** 2)), rel=FLOAT32)
    assert len(q.levels) == (1 if bits == 1 else 2**bits + 1)
    assert q.index_bits == math.log2(len(q.levels))


@pytest.mark.parametrize("bits", BITS)
def test_notebook_clipped_is_the_notebook(bits):
    """Its own lines, on weights for which they are exact in floating point: a clip of 2**b - 1 and a step of 2."""
    clip = 2**bits - 1
    few = np.array([clip / 4, 0.3 * clip, clip / 2.5, 2.0 * clip])
    x = np.repeat(np.concatenate([few, -few, [0.0]]), [40, 20, 3, 1, 40, 20, 3, 1, 0])
    # As many zeros as make the standard deviation a third of the clip.
    rest = 9 * np.sum(x**2) / clip**2 - len(x)
    zeros = int(np.ceil(rest))
    x = np.concatenate([x, np.zeros(zeros)]) * np.sqrt((len(x) + zeros) * clip**2 / 9 / np.sum(x**2))
    step = 2 * clip / (2**bits - 1)
    expected = np.mean((x - np.round(np.clip(x, -clip, clip) / step) * step) ** 2)
    q = sq.notebook_clipped(exact(torch.from_numpy(x)), bits)
    assert q.mse == close(expected, rel=1e-9)
    assert q.levels[-1] == close(step * (2 ** (bits - 1) if bits > 1 else 0), abs=1e-12 * clip)
    assert q.index_bits == math.log2(2**bits + 1 if bits > 1 else 1)


def test_notebook_clipped_does_not_clip_what_is_within_three_deviations(source):
    x = exact(torch.linspace(-1, 1, 41))
    for bits in BITS:
        assert sq.notebook_clipped(x, bits).mse == sq.notebook_symmetric(x, bits).mse
        assert sq.notebook_clipped(source, bits).mse != sq.notebook_symmetric(source, bits).mse or bits == 1


def test_many_atoms_are_designed_for_on_few(monkeypatch):
    """Against the search on all atoms: the module promises 2e-4 of the error of 256 levels."""
    x = exact(0.02 * torch.randn(20_000, generator=torch.Generator().manual_seed(2)))
    searched = sq.lloyd_max_levels, sq.entropy_coded, sq.clipped_optimally
    few = {bits: [quantizer(x, bits) for quantizer in searched] for bits in (2, 6)}
    monkeypatch.setattr(sq, "DESIGN_ATOMS", len(x.values))
    for bits, (levels, coded, clipped) in few.items():
        best = sq.lloyd_max_levels(x, bits)
        assert 1 <= levels.mse / best.mse < 1.0002
        assert clipped.mse == close(sq.clipped_optimally(x, bits).mse, rel=1e-4)
        assert coded.index_bits == close(bits, abs=2e-3)
        plain = ecsq(x, rate=coded.index_bits)
        assert coded.mse < plain.mse * 4 ** (plain.rate - coded.index_bits) * (1 + 1e-3)


def test_cells_that_hold_no_atom_are_left_out(monkeypatch):
    """Cells are those of the coarsened histogram; of 324 three lie between the atoms that one was merged from."""
    x = Histogram(np.sort(np.random.default_rng(1).standard_normal(1200)), np.ones(1200, dtype=np.int64))
    monkeypatch.setattr(sq, "DESIGN_ATOMS", 600)
    cells = optimal_ecsq(coarsened(x, 600), 8).thresholds
    index = np.searchsorted(cells, x.values)
    held = np.unique(index)
    assert len(held) < len(cells) + 1
    q = sq.entropy_coded(x, 8)
    means = np.array([x.values[index == k].mean() for k in held])
    np.testing.assert_allclose(q.levels, means, rtol=SUM, atol=SUM)
    p = np.array([(index == k).mean() for k in held])
    assert q.index_bits == close(-float(p @ np.log2(p)), rel=SUM)
    assert q.mse == close(float(((x.values - means[np.searchsorted(held, index)]) ** 2).mean()), rel=1e-10)


def test_ternary_weights():
    """A tensor of more entropy than the bits, and no quantizer of just those bits."""
    x = exact(torch.tensor([-1.0, 0.0, 0.0, 1.0]).repeat(10))
    q = sq.entropy_coded(x, 1)
    assert (q.index_bits, q.mse) == (close(2 - 0.75 * math.log2(3), rel=SUM), close(1 / 6, rel=SUM))
    assert "nearest 0.811278" in q.status


def test_seventeen_levels_at_four_bits_do_occur():
    x = torch.linspace(-15, 15, 61)
    q = sq.notebook_symmetric(exact(x), 4)
    rounded = np.unique(np.round(x.double().numpy() / 2) * 2)
    np.testing.assert_array_equal(q.levels, rounded)
    assert len(rounded) == 17


@pytest.mark.parametrize("bits", BITS)
def test_clips_are_theirs_of_the_theory(source, swept, bits):
    """There the clip is half a step beyond the outermost level."""
    beyond = 2**bits / (2**bits - 1)
    three = clip_mse(3 * math.sqrt(source.variance) * beyond, source, bits)
    assert swept["clipped_3_sigma", bits].mse == close(three, rel=CLIP_MSE)
    best = swept["clipped_optimally", bits]
    clips = best.levels[-1] * beyond * np.geomspace(0.3, 4, 2001)
    assert best.mse <= clip_mse(clips, source, bits).min() * (1 + CLIP_MSE)


def test_order_of_the_quantizers(source, swept):
    for bits in BITS:
        best = swept["lloyd_max", bits]
        for name in ("asymmetric", "symmetric", "clipped_3_sigma", "clipped_optimally"):
            assert best.mse <= swept[name, bits].mse
        assert swept["clipped_optimally", bits].mse <= swept["symmetric", bits].mse * (1 + SUM)
        index, _ = element_by_element(source.values, best)
        centroids = [np.average(source.values[index == i], weights=source.counts[index == i]) for i in range(2**bits)]
        np.testing.assert_allclose(best.levels, centroids, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("bits", "mse"), [(1, 0.363380), (2, 0.117482), (3, 0.0345478), (4, 0.00950101)])
def test_gaussian_lloyd_max_is_the_published_table(bits, mse):
    """[Max1960], on 200,001 Gaussian quantiles of equal weight (the 16-level value as recomputed)."""
    p = (np.arange(200_001) + 0.5) / 200_001
    gaussian = Histogram(GGD(2.0).quantile(p), np.ones(p.size, dtype=np.int64))
    assert sq.lloyd_max_levels(gaussian, bits).mse == close(mse, rel=QUANTILES)


def test_no_quantizer_passes_the_rate_distortion_function():
    """The certified lower end of D(R) of the histogram itself, at the rate of the index."""
    x = exact((torch.randn(3000, generator=torch.Generator().manual_seed(1)) * 16).round() / 16)
    for bits in (1, 2, 3, 4):
        for q in sq.sweep(x, [bits]):
            if q.index_bits:
                R = rate_distortion.solve(x, q.mse).lower if q.mse < x.variance else 0.0
                assert q.effective_bits >= q.index_bits >= R, (q.name, bits)


def test_effective_bits_count_what_the_decoder_stores(swept):
    stored = {"asymmetric": 2, "symmetric": 1, "clipped_3_sigma": 1, "clipped_optimally": 1, "lloyd_max": 16}
    for name, numbers in stored.items():
        assert swept[name, 4].effective_bits == close(4 + 32 * numbers / 20_001, rel=SUM)
    coded, notebook = swept["entropy_coded", 4], swept["notebook_symmetric", 4]
    assert coded.effective_bits == close(coded.index_bits + 64 * len(coded.levels) / 20_001, rel=SUM)
    assert notebook.effective_bits == close(math.log2(17) + 32 / 20_001, rel=SUM)


@pytest.mark.parametrize("value", [0.0, 3.0, -0.25])
def test_constant_tensors(value):
    by_name = {q.name: q.mse for q in sq.sweep(exact(torch.full((7,), value)), [1, 2, 8])}
    for name in ("clipped_3_sigma", "notebook_clipped"):
        assert by_name.pop(name) == value**2  # of deviation 0: it clips to 0
    del by_name["notebook_symmetric"]
    assert set(by_name.values()) == {0.0}


def test_what_is_refused(source):
    fractions = Histogram(np.array([0.0, 1.0]), np.array([0.25, 0.75]))
    for quantizer in sq.QUANTIZERS:
        for bits in (0, -1, 2.5):
            with pytest.raises(ValueError, match=r"bits = .* is outside"):
                quantizer(source, bits)
        with pytest.raises(ValueError, match="integers"):
            quantizer(fractions, 1)
