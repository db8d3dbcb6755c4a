"""The kernels on a GPU against torch on the CPU: rounded to the same bits, and sums that differ by their order."""

import math

import numpy as np
import pytest
import torch

from empirics import blocks_cuda, cuda, fit, rows_cuda
from empirics.distortion import distortion
from empirics.experiments.weights.experiment import spreads
from empirics.influence import _sums, standard_errors
from empirics.quantizers import get, names

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

SUM = 1e-12  # float64 sums of up to 2**22 terms, none negative, in another order
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def drawn(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """Rows of their own scales; some of zeros, constant, with a weight far out, of subnormal numbers."""
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)) * 0.02
    x *= torch.linspace(0.1, 3, rows)[:, None]
    x[0], x[1], x[2, 5] = 0.0, 0.5, 30.0
    x[3] = torch.finfo(dtype).tiny / 8 * torch.arange(columns)
    return x.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", [*names(), "nf4-fp16", "int4-e8m0", "bof4s-bf16"])
def test_distortion(name, dtype):
    quantizer = get(*name.split("-"))
    for shape, block in (((64, 512), 64), ((37, 640), 40), ((24, 4096), "row"), ((24, 4096), 1024), ((16, 256), 16)):
        x = drawn(*shape, dtype)
        here, there = distortion(quantizer, x, block), distortion(quantizer, x.cuda(), block)
        for sums in ("squared_error", "energy", "absmax_in_rows"):
            np.testing.assert_allclose(getattr(there, sums), getattr(here, sums), rtol=SUM)
        assert there.worst == pytest.approx(here.worst, rel=4e-16)  # a quotient, rounded once


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_kernels_do_it(dtype):
    """What is above would also be true of torch on the GPU."""
    x = drawn(64, 512, dtype).cuda()
    low, high = blocks_cuda.ends(x.view(-1), 64)
    torch.testing.assert_close(low, x.float().view(-1, 64).amin(1), rtol=0, atol=0)
    torch.testing.assert_close(high, x.float().view(-1, 64).amax(1), rtol=0, atol=0)
    rule = get("int4").rule
    absmax = torch.maximum(-low, high)
    assert blocks_cuda.errors(x.view(-1), 64, rule, (absmax,), (absmax,), absmax) is not None
    assert rows_cuda.summary(x) is not None
    assert rows_cuda.columns(x) is not None
    rows, peaks = torch.arange(64, device="cuda"), torch.ones(64, dtype=torch.float64, device="cuda")
    assert rows_cuda.powers(x, rows, peaks, 1.5) is not None


def test_scales_quantized_twice(monkeypatch):
    """Against torch on the same device: the mean of all scales depends on the order of the sum."""
    x = drawn(64, 512, torch.bfloat16).cuda()
    found = distortion(get("nf4", "double"), x, 64)
    monkeypatch.setattr(cuda, "kernel", lambda *_: None)
    np.testing.assert_allclose(found.squared_error, distortion(get("nf4", "double"), x, 64).squared_error, rtol=SUM)


def test_what_they_do_not_take_is_computed_all_the_same():
    x = drawn(64, 513, torch.bfloat16)
    assert cuda.lanes(x.view(-1).cuda(), 7) == 0
    for block in (7, 64, "row", "tensor"):
        here, there = distortion(get("nf4"), x, block), distortion(get("nf4"), x.cuda(), block)
        np.testing.assert_allclose(there.squared_error, here.squared_error, rtol=SUM)
    turned = drawn(64, 512, torch.bfloat16).T  # not contiguous
    np.testing.assert_allclose(np.hstack(spreads(turned.cuda())[0]), np.hstack(spreads(turned)[0]), rtol=1e-10)
    square = [lambda x: x.square() - 1e-4]
    assert standard_errors(turned.cuda(), *square) == pytest.approx(standard_errors(turned, *square), rel=1e-9)
    shifted = drawn(64, 513, torch.bfloat16).cuda().view(-1)[1 : 1 + 64 * 512]  # not at a multiple of 16 bytes
    assert distortion(get("nf4"), shifted, 64).mse == distortion(get("nf4"), shifted.clone(), 64).mse


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_are_refused(bad):
    x = torch.randn(64, 512).bfloat16().cuda()
    x[5, 77] = bad
    low, high = blocks_cuda.ends(x.view(-1), 64)
    assert int((~low.isfinite()).sum()) == (not bad > 0)
    assert int((~high.isfinite()).sum()) == (not bad < 0)
    with pytest.raises(ValueError, match="1 of 32768 weights are NaN or infinite"):
        distortion(get("nf4"), x, 64)
    with pytest.raises(ValueError, match="1 of 32768 weights are NaN or infinite"):
        fit.within_rows(x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(64, 512), (37, 640), (24, 4096), (3000, 64)])
def test_fit_within_rows(dtype, shape):
    x = drawn(*shape, dtype)
    here, there = fit.within_rows(x), fit.within_rows(x.cuda())
    assert (there.n, there.rows, there.zero_rows, there.status) == (here.n, here.rows, here.zero_rows, here.status)
    for value in ("beta", "standard_error", "sigma", "log_likelihood"):
        # Newton's method stops where the step is 1e-8: what is left is the square of that.
        assert getattr(there, value) == pytest.approx(getattr(here, value), rel=1e-10)
    torch.testing.assert_close(there.row_second_moments.cpu(), here.row_second_moments, rtol=SUM, atol=0)


@pytest.mark.parametrize("beta", [0.1, 1.5, 50.0])
def test_zeros_have_no_power(beta):
    """Nor a logarithm that counts, at the least exponent either."""
    x = drawn(64, 512, torch.bfloat16)[1:]
    x[:, ::2] = 0
    peaks = x.double().abs().amax(1)
    s, first, second = rows_cuda.powers(x.cuda(), torch.arange(63, device="cuda"), peaks.cuda(), beta).cpu()
    for found, expected in zip((s, first / s, second / s), fit._power_sums(x, peaks, beta), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def test_rows_of_one_magnitude_are_refused():
    """0 is no magnitude: these determine no exponent."""
    x = torch.zeros(64, 512).bfloat16()
    x[:, ::3], x[:, 1::3] = 0.5, -0.5
    for there in (x, x.cuda()):
        with pytest.raises(ValueError, match="fewer than 2 distinct"):
            fit.within_rows(there)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(64, 512), (37, 640), (130, 4096)])
def test_errors_clustered_by_row_and_column(dtype, shape):
    x = drawn(*shape, dtype)
    influences = [lambda x: x.square() - 1e-4, lambda x: x.abs() - 0.01, lambda x: (x > 0.02).double() - 0.1]
    for some in (influences[:1], influences[:2], influences):
        here, there = _sums(x, some), _sums(x.cuda(), some)
        for a, b in zip(here, there, strict=True):
            scale = a.abs().amax(-1, keepdim=True) if a.ndim > 1 else a  # sums of either sign
            torch.testing.assert_close(b.cpu() / scale, a / scale, rtol=0, atol=1e-11)
        assert standard_errors(x.cuda(), *some) == pytest.approx(standard_errors(x, *some), rel=1e-9)
    if dtype.itemsize == 2:
        assert rows_cuda.moves(x.cuda(), torch.zeros((1, 2**16), dtype=torch.float64, device="cuda")) is not None


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(64, 512), (37, 640), (130, 4096)])
def test_spreads(dtype, shape):
    x = drawn(*shape, dtype)
    for here, there in zip(spreads(x), spreads(x.cuda()), strict=True):
        np.testing.assert_allclose(np.hstack(there), np.hstack(here), rtol=1e-10)  # differences of sums of like size
