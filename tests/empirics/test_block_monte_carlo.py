"""Draws through bitsandbytes itself, against the exact expectations of `theory`."""

import math

import numpy as np
import pytest
import torch
from bitsandbytes import functional
from scipy import stats

from tests import tolerances
from tests.blocks import agrees
from theory import scale_formats
from theory.block_scaling import mae, mse
from theory.codebooks import DYNAMIC8, FP4, NF4
from theory.sources import GGD

WEIGHTS = 2**21
CODEBOOKS = {"nf4": NF4, "fp4": FP4}


@pytest.fixture(scope="module", params=[2.0, 1.3])
def draw(request):
    """The exponent, and weights of unit variance."""
    rng, law = np.random.default_rng(7), GGD(request.param)
    x = stats.gennorm(law.beta, scale=law.alpha).rvs(WEIGHTS, random_state=rng)
    return request.param, torch.from_numpy(x.astype(np.float32))


def returned(weights, n, name, **options):
    packed, state = functional.quantize_4bit(weights, blocksize=n, quant_type=name, **options)
    return functional.dequantize_4bit(packed, state)


@pytest.mark.parametrize("n", [32, 64, 128, 256, 512, 1024, 2048, 4096])
@pytest.mark.parametrize("name", CODEBOOKS)
def test_errors_of_four_bits(draw, name, n):
    beta, weights = draw
    error = (weights - returned(weights, n, name)).abs().double().reshape(-1, n)
    agrees((error**2).mean(dim=1).numpy(), mse(CODEBOOKS[name], n, GGD(beta)), resolution=0.02)
    agrees(error.mean(dim=1).numpy(), mae(CODEBOOKS[name], n, GGD(beta)))


@pytest.mark.parametrize("n", [32, 64])
def test_extra_error_of_double_quantization(draw, n):
    # On the same draws, in groups of 256 blocks, which share a second scale.
    beta, weights = draw
    once, twice = (
        ((weights - returned(weights, n, "nf4", compress_statistics=c)).double() ** 2)
        .reshape(-1, 256 * n)
        .mean(dim=1)
        for c in (False, True)
    )
    extra = (twice - once).numpy()
    expected = scale_formats.mse(NF4, n, GGD(beta), "double") - mse(NF4, n, GGD(beta))
    error = extra.std() / math.sqrt(len(extra))
    assert abs(extra.mean() - expected) < tolerances.STANDARD_ERRORS * error
    assert error < 0.25 * expected


def test_levels_of_the_second_scale():
    assert np.abs(functional.create_dynamic_map().double().numpy() - DYNAMIC8.levels).max() < 2.0**-24
