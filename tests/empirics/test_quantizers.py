"""Block quantizers against naive loops, and against the exact theory of THEORY.md, section 4."""

import math

import bitsandbytes.functional as bnb
import numpy as np
import pytest
import torch

from empirics import blocks
from empirics.distortion import distortion
from empirics.quantizers import get, names


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


# E D at beta = 2, blocks of 64: THEORY.md, section 4.
@pytest.mark.parametrize(("name", "theory"), [("nf4", 0.008460053), ("fp4", 0.01487052)])
def test_gaussian_distortion_is_the_theorys(name, theory):
    blocks = distortion(get(name), normal(2048, 64, 16).view(-1, 64), 64)  # each row is one block
    error = blocks.squared_error / 64
    assert abs(error.mean() - theory) < 4 * error.std() / math.sqrt(len(error))
    assert error.std() / math.sqrt(len(error)) < 0.001 * theory * 2  # the test has the power it claims


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["nf4", "fp4"])
@pytest.mark.parametrize("block_size", [32, 64, 1024, 2048, 4096])
def test_four_bits_are_the_librarys(name, dtype, block_size):
    """The packed codes are those of the tensor's own dtype; the values are code times absmax in float32."""
    x = normal(3, 8192, dtype=dtype)
    packed, state = bnb.quantize_4bit(x, blocksize=block_size, quant_type=name)
    codes = torch.stack([packed.view(-1) >> 4, packed.view(-1) & 15], 1).view(-1, block_size).long()
    table = bnb.get_4bit_type(name, device="cpu")
    expected = (table[codes] * state.absmax[:, None]).view(x.shape)
    torch.testing.assert_close(get(name).quantize(x, block_size), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["nf4", "fp4"])
def test_the_codebook_is_what_the_library_rounds_to(name):
    quantizer, x = get(name), normal(512, 64)
    values = quantizer.quantize(x, 64) / x.abs().amax(1, keepdim=True)
    away = (values.view(-1, 1) - torch.tensor(quantizer.codebook.levels)).abs().min(1)
    assert away.values.max() < 2e-7  # float32: two roundings
    assert len(away.indices.unique()) == len(quantizer.codebook)


def naive_integers(x: np.ndarray, block_size: int, top: int) -> np.ndarray:
    flat, out = x.ravel(), np.zeros(x.size, dtype=np.float32)
    for start in range(0, x.size, block_size):
        block = flat[start : start + block_size]
        scale = np.abs(block).max() / np.float32(top)
        if scale > 0:
            out[start : start + block_size] = np.round(block / scale) * scale
    return out.reshape(x.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("shape", "block_size"), [((8, 64), 64), ((5, 37), 32), ((3, 100), 7), ((11,), 64)])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_integers_are_those_of_a_loop(monkeypatch, dtype, shape, block_size, bits):
    monkeypatch.setattr(blocks, "CHUNK", 96)
    x = normal(*shape, dtype=dtype)
    x.view(-1)[:block_size] = 0
    expected = naive_integers(x.float().numpy(), block_size, 2 ** (bits - 1) - 1)
    np.testing.assert_array_equal(get(f"int{bits}").quantize(x, block_size).numpy(), expected)


def test_halves_round_to_even_on_fifteen_levels():
    x = torch.cat([torch.arange(-7, 7.5, 0.5), torch.full((3,), 7.0)])
    found = get("int4").quantize(x, 32)
    assert found[:8].tolist() == [-7, -6, -6, -6, -5, -4, -4, -4]
    assert len(found.unique()) == 15


def test_an_underflowing_scale_still_has_fifteen_levels():
    """Of 10 units in the last place a seventh is 1: the scale is too small by 30 %, and the ends are clipped."""
    units = torch.arange(-10, 11)
    x = units.int().abs().view(torch.float32) * units.sign()
    assert (get("int4").quantize(x, 21).abs().view(torch.int32) == units.abs().clamp(max=7)).all()
    assert (get("int8").quantize(x, 21) == 0).all()  # a 127th of 10 units is 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["nf4", "fp4", "int4", "sym3"])
@pytest.mark.parametrize(
    ("shape", "block_size"),
    [((40, 96), 64), ((40, 96), 32), ((7, 33), 32), ((2, 3, 1000), 128), ((50,), 32), ((13, 5), 64)],
)
def test_error_sums_are_those_of_the_whole_tensor(monkeypatch, dtype, name, shape, block_size):
    """Rows longer and shorter than a chunk, begun in one and ended in another; zero blocks; a short block."""
    monkeypatch.setattr(blocks, "CHUNK", 256)
    x, quantizer = normal(*shape, seed=5, dtype=dtype), get(name)
    x.view(-1)[:block_size] = 0
    q, wide = quantizer.quantize(x, block_size).double(), x.float().double()
    flat = wide.view(-1)
    absmax = torch.stack([b.abs().max() for b in flat.split(block_size)])
    excess = torch.stack([b.abs().max() for b in (q.view(-1) - flat).split(block_size)]) / absmax
    found = distortion(quantizer, x, block_size)
    np.testing.assert_allclose(found.squared_error, (q - wide).square().sum(-1).view(-1), rtol=1e-12)
    np.testing.assert_allclose(found.energy, wide.square().sum(-1).view(-1), rtol=1e-12)
    begun = [0.0] * len(found.energy)
    for first, largest in zip(range(0, x.numel(), block_size), absmax.tolist(), strict=True):
        begun[first // x.shape[-1]] += largest
    np.testing.assert_allclose(found.absmax_in_rows, begun, rtol=1e-12)
    assert found.absmax_sum == pytest.approx(float(absmax.sum()), rel=1e-12)
    assert found.absmax_square_sum == pytest.approx(float(absmax.square().sum()), rel=1e-12)
    assert found.worst == pytest.approx(float(excess.nan_to_num(0).max()), rel=1e-12, abs=0)
    assert found.worst <= quantizer.codebook.largest_half_gap + 2e-7  # float32 division
    assert (found.blocks, found.n) == (len(absmax), x.numel())
    assert found.mse == pytest.approx(float((q - wide).square().mean()), rel=1e-12)
    assert found.relative == pytest.approx(found.mse / float(flat.square().mean()), rel=1e-12)


@pytest.mark.parametrize("name", names())
def test_zeros_stay_zeros(name):
    found = distortion(get(name), torch.zeros(3, 64), 32)
    assert found.squared_error.tolist() == [0, 0, 0]
    assert (found.worst, found.absmax_sum) == (0, 0)
    assert math.isnan(found.relative)


@pytest.mark.parametrize("measure", [lambda q, x: q.quantize(x, 64, "w"), lambda q, x: distortion(q, x, 64, "w")])
@pytest.mark.parametrize("name", ["nf4", "int4"])
def test_refuses_nan_and_infinity(measure, name):
    x = normal(4, 64)
    x[2, 3], x[3, 5] = float("nan"), float("inf")
    with pytest.raises(ValueError, match=r"^w: 2 of 256 weights are NaN or infinite$"):
        measure(get(name), x)


def test_refusals_say_what_would_do():
    with pytest.raises(ValueError, match="block_size = 0"):
        get("int4").quantize(normal(4, 48), 0)
    with pytest.raises(ValueError, match="block_size = 'column' is not a positive integer, 'row' or 'tensor'"):
        get("int4").quantize(normal(4, 48), "column")
    with pytest.raises(ValueError, match="block_size = 'row' needs the shape"):
        get("int4").effective_bits("row")
    with pytest.raises(TypeError, match=r"torch\.uint8"):
        get("nf4").quantize(torch.ones(64, dtype=torch.uint8), 64)
    with pytest.raises(ValueError, match=r"int44.*did you mean int4"):
        get("int44")
    with pytest.raises(ValueError, match="there are nf4, fp4"):
        get("zzz")


@pytest.mark.parametrize("name", [name for name in names() if get(name).codebook])
def test_codebooks_have_the_bits(name):
    quantizer = get(name.upper())
    assert quantizer.name == name
    assert len(quantizer.codebook) <= 2**quantizer.bits
