"""Stored scales: their values against torch, their cost against drawing, by adding cells and by bounds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tolerances
from tests.blocks import agrees, draws, nearest
from theory import scale_formats
from theory.block_scaling import absmax_cdf, absmax_pdf, absmax_second_moment, mse
from theory.block_source import order_statistic_range
from theory.codebooks import BOF4S_64, DYNAMIC8, E2M1, NF4, integer, midrise
from theory.scale_formats import get, rounding_bounds
from theory.sources import GGD, Histogram
from theory.stored_scales import StoredScales, doubly_quantized

FLOATS = ["fp16", "bf16", "fp8_e4m3", "fp8_e5m2"]
FORMATS = [*FLOATS, "e8m0"]
close = tolerances.close

# What the quadrature over the cells leaves, against the integral without cells: measured 2.1e-13.
CELLS = 1e-12
# The extra error of a fine format is fourfold for each bit less, up to where in an octave the scales lie.
PER_BIT = 0.03


@pytest.mark.parametrize("name", FLOATS)
def test_values_are_those_of_torch(name):
    torch = pytest.importorskip("torch")
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp8_e4m3": torch.float8_e4m3fn,
             "fp8_e5m2": torch.float8_e5m2}[name]  # fmt: skip
    scales = np.exp(np.random.default_rng(1).uniform(-16, 6, 20_000)).astype(np.float32)
    there = torch.from_numpy(scales).to(dtype).double().numpy()
    fmt = get(name)
    assert np.array_equal(fmt.round(scales.astype(float)), there)
    assert np.all(np.abs(there / scales - 1)[scales > 2.0**-6] <= fmt.relative_error)
    assert fmt.largest == torch.finfo(dtype).max
    assert fmt.round(fmt.largest) == fmt.largest
    values, ends = fmt.cells(scales.min(), scales.max())
    assert set(there) <= set(values)
    assert np.array_equal(fmt.round(values), values)
    inside = (ends[:-1] + ends[1:]) / 2
    assert np.array_equal(fmt.round(inside), values)


@given(st.sampled_from(FORMATS), st.floats(1e-9, 1.0), st.floats(1.0, 100.0))
def test_cells_cover_the_range(name, low, ratio):
    values, ends = get(name).cells(low, low * ratio)
    assert (ends[0], ends[-1]) == (low, low * ratio)
    assert len(ends) == len(values) + 1
    assert np.all(np.diff(ends) >= 0)
    assert np.all(np.diff(values) > 0)
    wide = ends[1:] > ends[:-1] * (1 + 1e-12)
    assert np.array_equal(get(name).round((ends[:-1] + ends[1:]) / 2)[wide], values[wide])


def test_shared_exponents_are_those_of_microscaling():
    # X = 2**(floor(log2 max) - 2), and the elements are multiples of X up to 6.
    s = np.array([1.0, 1.99, 2.0, 0.3, 6.0, 7.99])
    assert np.array_equal(get("e8m0").round(s), 6 * 2.0 ** (np.floor(np.log2(s)) - 2))


@pytest.mark.parametrize("codebook", [NF4, BOF4S_64, midrise(4), integer(4, symmetric=False)])
@pytest.mark.parametrize(("beta", "n", "sigma"), [(2.0, 64, 1.0), (0.7, 2, 0.02), (8.0, 16, 0.3), (2.0, 4096, 0.02)])
def test_exact_scales_in_cells_cost_nothing(monkeypatch, codebook, beta, n, sigma):
    source = GGD(beta, sigma)
    for encode in ("exact", "rounded"):
        blocks = StoredScales(codebook, n, source, encode)
        error = blocks.error
        monkeypatch.setattr(blocks, "error", lambda s, _, error=error: error(s, s))
        for name in FORMATS:
            cells = get(name).cells(*order_statistic_range(source, n, n))
            assert blocks.over_cells(*cells) == close(mse(codebook, n, source), rel=CELLS)
        if n > 2:
            assert doubly_quantized(blocks, DYNAMIC8.levels, 256) == close(mse(codebook, n, source), rel=CELLS)


@pytest.mark.parametrize("name", FORMATS[1:])
@pytest.mark.parametrize("encode", ["exact", "rounded"])
def test_parts_of_cells_add_up(name, encode):
    # Each cell in 16 parts: where a level's edge passes the end of a block there must have been a cut.
    blocks = StoredScales(E2M1, 16, GGD(1.3, 0.02), encode)
    values, ends = get(name).cells(*order_statistic_range(GGD(1.3, 0.02), 16, 16))
    parts = np.r_[np.linspace(ends[:-1], ends[1:], 16, endpoint=False).T.ravel(), ends[-1]]
    assert blocks.over_cells(values, ends) == close(blocks.over_cells(np.repeat(values, 16), parts), rel=CELLS)


def quantized(codebook, x, stored, encode):
    """Blocks in rows, by the definition; `stored` takes their scales (their sign apart) to those that are kept."""
    at = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, None], axis=1)
    sign = np.sign(at) if codebook.scaling == "signed" else 1.0
    kept = stored(np.abs(at)) * sign
    coder = np.abs(at) * sign if encode == "exact" else np.where(kept == 0, 1.0, kept)
    return np.mean((x - kept * nearest(codebook.levels, x / coder)) ** 2, axis=1)


@pytest.mark.parametrize("encode", ["exact", "rounded"])
@pytest.mark.parametrize("codebook", [NF4, E2M1, BOF4S_64])
@pytest.mark.parametrize("name", ["fp8_e4m3", "fp8_e5m2", "e8m0"])
@pytest.mark.parametrize(("beta", "n", "sigma"), [(2.0, 32, 1.0), (1.0, 8, 0.02), (2.0, 16, 3e-4)])
def test_coarse_scales_against_draws(codebook, name, beta, n, sigma, encode):
    # The smallest scales are subnormal in fp8, and some of them 0.
    x = draws(GGD(beta, sigma), (200_000 // n, n), seed=n)
    expected = scale_formats.mse(codebook, n, GGD(beta, sigma), name, encode)
    agrees(quantized(codebook, x, get(name).round, encode), expected, resolution=0.02)
    assert expected > mse(codebook, n, GGD(beta, sigma))


@pytest.mark.parametrize(
    ("name", "encode"), [("bf16", "exact"), ("fp16", "exact"), ("fp8_e4m3", "rounded"), ("fp8_e5m2", "rounded")]
)
def test_the_extra_error_of_fine_scales_against_draws(name, encode):
    # The same draws with both scales: what both have in common cancels. fp16 is subnormal at this sigma.
    source = GGD(2.0, 1e-5 if name == "fp16" else 1.0)
    x = draws(source, (100_000, 16), seed=3)
    extra = quantized(NF4, x, get(name).round, encode) - quantized(NF4, x, lambda s: s, encode)
    expected = scale_formats.mse(NF4, 16, source, name, encode) - mse(NF4, 16, source)
    error = extra.std() / math.sqrt(len(extra))
    assert abs(extra.mean() - expected) < tolerances.STANDARD_ERRORS * error
    assert error < 0.25 * expected


def test_double_quantization_against_draws():
    # 256 scales share a second one; with fewer blocks of 4 the scales differ the more.
    for n in (4, 64):
        x = draws(GGD(2.0), (256 * (400 if n == 4 else 100), n), seed=n)
        mean = float(np.abs(draws(GGD(2.0), (10**7 // n, n), seed=9)).max(axis=1).mean())

        def stored(s, mean=mean):
            deviation = (s - mean).reshape(-1, 256)
            second = np.abs(deviation).max(axis=1, keepdims=True)
            return (mean + second * nearest(DYNAMIC8.levels, deviation / second)).reshape(s.shape)

        extra = quantized(NF4, x, stored, "exact") - quantized(NF4, x, lambda s: s, "exact")
        expected = scale_formats.mse(NF4, n, GGD(2.0), "double") - mse(NF4, n, GGD(2.0))
        groups = extra.reshape(-1, 256).mean(axis=1)
        error = groups.std() / math.sqrt(len(groups))
        assert abs(groups.mean() - expected) < tolerances.STANDARD_ERRORS * error
        assert error < 0.2 * expected


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("encode", ["exact", "rounded"])
@pytest.mark.parametrize(("beta", "n"), [(2.0, 64), (1.0, 8), (8.0, 512)])
def test_bounds_hold(name, encode, beta, n):
    low, high = rounding_bounds(NF4, n, GGD(beta), get(name).relative_error)
    assert low <= scale_formats.mse(NF4, n, GGD(beta), name, encode) <= high


def test_fp32_is_between_its_bounds():
    low, high = rounding_bounds(NF4, 64, GGD(2.0), 2.0**-24)
    value = scale_formats.mse(NF4, 64, GGD(2.0))
    assert low < value < high
    root = math.sqrt(value) + 2.0**-24 * math.sqrt(absmax_second_moment(64, GGD(2.0)))
    assert high == close(root**2, rel=1e-13)
    # The extra error falls by 4 a bit: what fp16 and bf16 cost says what fp32 does.
    extra = [scale_formats.mse(NF4, 64, GGD(2.0), name) / value - 1 for name in ("bf16", "fp16")]
    assert extra[0] / extra[1] == close(4**3, rel=PER_BIT)
    assert extra[1] / 4**13 < 1e-13


def test_scaling():
    # Powers of two change nothing but the exponent.
    for name in ("bf16", "e8m0", "double"):
        one, small = (scale_formats.mse(NF4, 64, GGD(2.0, s), name) for s in (1.0, 2.0**-7))
        assert small == close(one * 2.0**-14, rel=1e-12)


def test_a_scale_that_is_stored_as_zero_loses_its_block():
    assert scale_formats.mse(NF4, 16, GGD(2.0, 1e-5), "fp8_e4m3") == close(1e-10, rel=1e-11)


def test_density_of_the_scale():
    blocks, s = StoredScales(NF4, 64, GGD(2.0), "exact"), np.array([0.5, 2.5, 4.0])
    assert blocks.cdf(s) == close(absmax_cdf(s, 64, GGD(2.0)), rel=1e-12)
    assert blocks.density(s) == close(absmax_pdf(s, 64, GGD(2.0)), rel=1e-12)
    assert [blocks.survival(x) for x in s] == close(1 - absmax_cdf(s, 64, GGD(2.0)), rel=1e-9)


def test_rates():
    assert [get(name).bits_per_weight(32) for name in ("fp32", "fp16", "bf16", "fp8_e4m3", "e8m0")] == [
        1.0, 0.5, 0.5, 0.25, 0.25]  # fmt: skip
    assert get("double").bits_per_weight(64) == 8 / 64 + 32 / (64 * 256)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: get("fp12"), "no scale format is called 'fp12': did you mean fp"),
        (lambda: get("bf16").bits_per_weight(0), "n = 0.* is outside"),
        (lambda: scale_formats.mse(NF4, 64, GGD(2.0), "bf16", "both"), "encode = 'both' is neither"),
        (lambda: scale_formats.mse(NF4, 64, GGD(2.0), "double", "rounded"), "divides by the exact scale"),
        (lambda: scale_formats.mse(NF4, 0, GGD(2.0), "bf16"), "n = 0.* is outside"),
        (lambda: scale_formats.mse(NF4, 64, GGD(2.0, 100.0), "fp8_e4m3"), "beyond the largest fp8_e4m3 448"),
        (lambda: rounding_bounds(NF4, 64, GGD(2.0), 1.0), r"relative_error = 1.0 is outside \(0, 1\)"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_histogram_has_no_density():
    with pytest.raises(TypeError, match="need a density"):
        scale_formats.mse(NF4, 64, Histogram([-1.0, 1.0], [1, 1]), "bf16")
