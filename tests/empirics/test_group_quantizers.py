"""Rules and scale formats: against bitsandbytes, the exact theory, torch's casts, and loops over blocks."""

import math

import bitsandbytes.functional as bnb
import numpy as np
import pytest
import torch

from empirics import blocks
from empirics.distortion import distortion
from empirics.group_quantizers import stored
from empirics.quantizers import get, names
from tests.tolerances import STANDARD_ERRORS, close
from theory import scale_formats
from theory.sources import GGD

FLOATS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp8_e4m3": torch.float8_e4m3fn,
          "fp8_e5m2": torch.float8_e5m2}  # fmt: skip
FORMATS = ["fp32", *FLOATS, "e8m0", "double"]
SIGMA = 0.02
# Of the scale: a few float32 roundings of a value, or of a weight next to the middle of two levels.
FLOAT32 = 2e-6
# bitsandbytes rounds what it quantizes to 8 bits to a grid of 2**-15 on a CPU, before it looks it up.
BNB_GRID = 2.0**-15


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (SIGMA * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


@pytest.fixture(scope="module")
def draws() -> torch.Tensor:
    """2**21 Gaussian weights; each row is a block."""
    return normal(2**15, 64)


# bitsandbytes.


def ratios() -> torch.Tensor:
    """Blocks of 64 with every ratio of two bf16 numbers from 2**-9 to 1, of either sign, the larger one first."""
    mantissas = torch.arange(128, 256).float()
    small = (mantissas[:, None] * 2.0 ** -torch.arange(0, 10)).flatten()
    small = torch.cat([small, -small])
    filled = torch.cat([small, small.new_zeros(-len(small) % 63)]).view(-1, 63)
    found = [torch.cat([torch.full((len(filled), 1), float(m)), filled.clamp(-m, m)], 1) for m in mantissas]
    return torch.cat(found) * SIGMA / 128


@pytest.mark.parametrize("name", ["nf4", "fp4"])
def test_four_bits_are_the_librarys_at_every_ratio(name):
    x = ratios()
    packed, state = bnb.quantize_4bit(x, blocksize=64, quant_type=name)
    assert torch.equal(get(name).quantize(x, 64), bnb.dequantize_4bit(packed, state))


@pytest.mark.parametrize("name", ["nf4", "fp4"])
@pytest.mark.parametrize("shape", [(512, 256), (100, 192)])  # 8 blocks of 256 scales; a block and a short one
def test_double_quantization_is_the_librarys(name, shape):
    x = normal(*shape, dtype=torch.bfloat16)
    packed, state = bnb.quantize_4bit(x, blocksize=64, quant_type=name, compress_statistics=True)
    scales = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
    absmax = x.float().view(-1, 64).abs().amax(1)
    ours, largest = stored(absmax, "double"), state.state2.absmax.max()
    same = (ours - scales).abs() <= 2e-7 * scales
    assert same.float().mean() > 0.98
    # Where they differ the scale is about as far from both levels, and ours is the nearer.
    beyond = (scales - absmax).abs() - (ours - absmax).abs()
    assert (beyond > -2e-7 * scales).all()
    assert (beyond < 2 * BNB_GRID * largest).all()
    codes = torch.stack([packed.view(-1) >> 4, packed.view(-1) & 15], 1).view(-1, 64).long()
    expected = bnb.get_4bit_type(name, device="cpu")[codes] * scales[:, None]
    found = get(f"{name}-double").quantize(x, 64).view(-1, 64)
    torch.testing.assert_close(found[same], expected[same], rtol=4e-7, atol=0)


# The exact theory, on Gaussian draws.


WITH_CODEBOOK = ["nf4", "fp4", "e2m1", "af4", "bof4", "bof4s", "int2", "int4", "int8", "sym1", "sym4", "sym8",
                 "notebook_group2", "notebook_group4"]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        *WITH_CODEBOOK,
        *(f"{name}-{kind}" for name in ("nf4", "e2m1", "bof4s", "int3", "sym4") for kind in FORMATS[1:-1]),
        "nf4-double",
        "bof4s-double",
    ],
)
def test_gaussian_distortion_is_the_theorys(draws, name):
    quantizer = get(name)
    error = distortion(quantizer, draws, 64).squared_error / 64
    expected = quantizer.predicted_mse(64, GGD(2.0, SIGMA))
    spread = error.std() / math.sqrt(len(error))
    assert abs(error.mean() - expected) < STANDARD_ERRORS * spread
    assert spread < 0.005 * expected  # or the comparison says nothing


@pytest.mark.parametrize("name", ["nf4", "int4", "sym4", "bof4s"])
@pytest.mark.parametrize("block_size", [16, 32, 128, 256, "row"])
def test_other_blocks(draws, name, block_size):
    x = draws.view(-1, 512)
    error = distortion(get(name), x, block_size).squared_error / 512
    expected = get(name).predicted_mse(512 if block_size == "row" else block_size, GGD(2.0, SIGMA))
    assert abs(error.mean() - expected) < STANDARD_ERRORS * error.std() / math.sqrt(len(error))


def test_rounding_a_scale_costs_what_the_theory_says(draws):
    """What both have in common cancels: the extra error of a fine format is resolved."""
    plain = distortion(get("nf4"), draws, 64).squared_error / 64
    for kind in ("double", "fp8_e4m3", "fp8_e5m2"):
        quantizer = get("nf4", kind)
        extra = distortion(quantizer, draws, 64).squared_error / 64 - plain
        expected = quantizer.predicted_mse(64, GGD(2.0, SIGMA)) - get("nf4").predicted_mse(64, GGD(2.0, SIGMA))
        spread = extra.std() / math.sqrt(len(extra))
        assert abs(extra.mean() - expected) < STANDARD_ERRORS * spread
        assert expected > STANDARD_ERRORS * spread, kind


# Formats.


@pytest.mark.parametrize("kind", FLOATS)
def test_stored_scales_are_the_theorys_roundings(kind):
    scales = torch.from_numpy(np.exp(np.random.default_rng(1).uniform(-16, 6, 20_000)).astype(np.float32))
    expected = scale_formats.get(kind).round(scales.double().numpy())
    np.testing.assert_array_equal(stored(scales, kind).double().numpy(), expected)
    np.testing.assert_array_equal(stored(-scales, kind).double().numpy(), -expected)


def test_powers_of_two_are_those_of_torch():
    scales = torch.from_numpy(np.exp(np.random.default_rng(1).uniform(-20, 20, 20_000)).astype(np.float32))
    found = stored(scales, "e8m0")
    np.testing.assert_array_equal(found.double().numpy(), scale_formats.get("e8m0").round(scales.double().numpy()))
    powers = found / 6  # the codebook's largest element is 6
    assert torch.equal(powers.to(torch.float8_e8m0fnu).float(), powers)
    assert ((4 * powers <= scales) & (scales < 8 * powers)).all()
    assert (stored(torch.tensor([0.0, 1e-44]), "e8m0") / 6).tolist() == [2.0**-127] * 2


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ["nf4", "bof4s", "int4", "sym4"])
def test_zeros_and_a_scale_that_is_stored_as_zero(name, kind):
    x = torch.zeros(4, 64)
    x[1], x[2, 5], x[3] = normal(64), -2e-6, 1e-12
    found = get(name, kind).quantize(x, 64)
    assert found.isfinite().all()
    assert (found[0].abs() <= 1e-30).all() or kind == "double"  # there the scale of zeros is what the mean leaves
    if kind.startswith("fp8"):
        assert (found[2:] == 0).all()  # below half the smallest subnormal


# Loops over blocks, in float64.


def quantized_by_hand(block: np.ndarray, name: str, kind: str) -> tuple[np.ndarray, ...]:
    """The levels that a block has, and those of its weights if they were exact; float64."""
    bits = int(name[-1])
    steps = 2**bits - 1
    kept = {"fp32": lambda s: s}.get(kind, lambda s: float(torch.tensor(s).to(FLOATS[kind])))
    low, high = float(block.min()), float(block.max())
    if name.startswith("asym"):
        step, low = kept((high - low) / steps), kept(low)
        return low + step * np.arange(steps + 1)
    if name.startswith("uint"):
        low, high = min(low, 0.0), max(high, 0.0)
        step = kept((high - low) / steps)
        zero = min(round(-low / step), steps) if step else 0
        return step * (np.arange(steps + 1) - zero)
    return kept(max(-low, high)) * np.asarray(get(name).codebook.levels)


@pytest.mark.parametrize("kind", ["fp32", *FLOATS])
@pytest.mark.parametrize("name", [f"{rule}{bits}" for rule in ("asym", "uint", "sym", "int") for bits in (2, 3, 8)])
def test_weights_go_to_the_nearest_level(name, kind):
    x = normal(40, 50, seed=3) + 0.4 * SIGMA
    x[3, :32] = 0.25
    x[4:6], x[6:8] = x[4:6].abs(), -x[6:8].abs()  # whole blocks of one sign
    x[-1] = x[-1].abs() + 0.1  # and a short one, far from 0
    found, flat = get(name, kind).quantize(x, 32).double().numpy().ravel(), x.double().numpy().ravel()
    for start in range(0, len(flat), 32):
        block = flat[start : start + 32]
        levels = quantized_by_hand(block, name, kind)
        nearest = np.abs(block[:, None] - levels).min(axis=1)
        here, scale = found[start : start + 32], np.abs(block).max()
        assert np.abs(here[:, None] - levels).min(axis=1).max() <= FLOAT32 * scale, (start, "no level")
        assert np.abs(np.abs(here - block) - nearest).max() <= FLOAT32 * scale, (start, "not the nearest")


@pytest.mark.parametrize("bits", range(1, 9))
def test_notebook_groups_are_the_notebooks(bits):
    """Its own arithmetic: a step in double, weights in float32, round half to even."""
    x = normal(60, 50, seed=2)
    x[1] = 0
    expected = np.zeros(3000 + 72, dtype=np.float32)
    expected[:3000] = x.numpy().ravel()
    groups = expected.reshape(-1, 128)
    for group in groups:
        peak = float(np.abs(group).max())
        if peak:
            step = 2 * peak / (2**bits - 1)
            group[:] = np.round(group / step) * step
    quantizer = get(f"notebook_group{bits}")
    found = quantizer.quantize(x, 128).numpy().ravel()
    np.testing.assert_allclose(found, expected[:3000], rtol=2e-7, atol=0)
    assert quantizer.index_bits == math.log2(2**bits + 1 if bits > 1 else 1)
    assert quantizer.effective_bits(128) == quantizer.index_bits + 16 / 128


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("block_size", ["row", "tensor"])
def test_notebook_channels_are_the_integers(bits, block_size):
    """The notebook adds 1e-12 to the largest magnitude of a row, which float32 does not see."""
    x, top = normal(20, 300).numpy(), 2 ** (bits - 1) - 1
    peak = np.abs(x).max(axis=1, keepdims=True) + 1e-12 if block_size == "row" else float(np.abs(x).max())
    scale = peak / top
    expected = np.clip(np.round(x / scale), -top, top) * scale
    found = get(f"int{bits}").quantize(torch.from_numpy(x), block_size).numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=0)


# Blocks.


@pytest.mark.parametrize("name", ["nf4", "bof4s-double", "int4-bf16", "sym3", "asym4-fp16", "uint4"])
@pytest.mark.parametrize("block_size", [7, 64, "row", "tensor"])
def test_chunks_do_not_matter(monkeypatch, name, block_size):
    x = normal(9, 130, seed=4, dtype=torch.bfloat16)
    whole, sums = get(name).quantize(x, block_size), distortion(get(name), x, block_size)
    monkeypatch.setattr(blocks, "CHUNK", 100)
    assert torch.equal(get(name).quantize(x, block_size), whole)
    cut = distortion(get(name), x, block_size)
    np.testing.assert_allclose(cut.squared_error, sums.squared_error, rtol=1e-12)
    assert (cut.worst, cut.blocks, cut.absmax_sum) == (sums.worst, sums.blocks, sums.absmax_sum)
    assert sums.mse == close(float((whole.double() - x.double()).square().mean()), rel=1e-12)


def test_rows_and_the_tensor_are_blocks_of_their_size():
    x = normal(6, 70)
    assert torch.equal(get("nf4").quantize(x, "row"), get("nf4").quantize(x, 70))
    assert torch.equal(get("nf4").quantize(x, "tensor"), get("nf4").quantize(x, 420))
    assert torch.equal(get("asym4").quantize(x, "tensor"), get("asym4").quantize(x, 1000))


def test_a_block_with_the_sign_of_its_largest_weight():
    x = torch.tensor([[-4.0, 1.0, 2.0, 3.9], [4.0, -1.0, -2.0, -3.9]])
    found = get("bof4s").quantize(x, 4)
    assert found[0, 0] == -4
    assert torch.equal(found[0], -found[1])


@pytest.mark.parametrize("bits", range(1, 9))
def test_levels_are_as_many_as_the_name_says(bits):
    top = (2**bits - 1) / 2  # a whole number of steps and a half
    x, rest = torch.linspace(-top, top, 40 * (2**bits - 1) + 1), {"int": 2**bits - 1, "notebook_group": 2**bits + 1}
    for rule in ("sym", "asym", "uint", "int", "notebook_group"):
        if bits > 1 or rule in ("sym", "asym"):
            assert len(get(f"{rule}{bits}").quantize(x, "tensor").unique()) == rest.get(rule, 2**bits)


# Bits.


@pytest.mark.parametrize(
    ("name", "block_size", "shape", "bits"),
    [
        ("nf4", 64, None, 4.5),
        ("int3-bf16", 32, None, 3.5),
        ("nf4-double", 64, None, 4 + 8 / 64 + 32 / (64 * 256)),
        ("e2m1-e8m0", 32, None, 4.25),
        ("bof4s-e8m0", 32, None, 4 + 9 / 32),  # the sign
        ("bof4s-fp8_e4m3", 16, None, 4.5),  # which this format has
        ("asym4-fp16", 128, None, 4.25),
        ("uint4-fp16", 128, None, 4 + 20 / 128),
        ("notebook_group4", 128, None, math.log2(17) + 0.125),
        ("int8-fp16", "row", (100, 4096), 8 + 16 / 4096),
        ("asym8", "tensor", (100, 10), 8 + 64 / 1000),
        ("int4", 64, (10, 10), 4 + 2 * 32 / 100),
    ],
)
def test_effective_bits(name, block_size, shape, bits):
    assert get(name).effective_bits(block_size, shape) == close(bits, rel=1e-14)


def test_refusals_say_why():
    with pytest.raises(ValueError, match="no scale format is called 'fp12': did you mean fp32 or fp16"):
        get("nf4", "fp12")
    with pytest.raises(ValueError, match="asym4-e8m0: a power of two stores the scale of a codebook"):
        get("asym4-e8m0")
    with pytest.raises(ValueError, match="notebook_group4 does not round its scales"):
        get("notebook_group4", "bf16")
    with pytest.raises(ValueError, match="w: 500 is beyond the largest fp8_e4m3, 448"):
        get("int4-fp8_e4m3").quantize(torch.full((4,), -500.0), 4, "w")
    with pytest.raises(ValueError, match="asym4 has no prediction"):
        get("asym4").predicted_mse(64, GGD(2.0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("name", [*names(), *(f"bof4s-{kind}" for kind in FORMATS[1:])])
def test_cuda_gives_the_same(name):
    x = normal(70, 96, dtype=torch.bfloat16)
    for block_size in (32, "row", "tensor"):
        # The mean of the scales, in double quantization, is summed in another order.
        here, there = get(name).quantize(x, block_size), get(name).quantize(x.cuda(), block_size).cpu()
        torch.testing.assert_close(there, here, rtol=1e-5 if "double" in name else 0, atol=0)
