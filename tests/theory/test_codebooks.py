"""Codebooks: against bitsandbytes, against the formats' definitions, and against our own optimizer."""

import itertools

import numpy as np
import pytest
from flint import arb
from mpmath import erf, erfinv, mp, mpf
from scipy import stats

from tests import tolerances
from theory import codebooks
from theory.block_scaling import best_codebook
from theory.codebooks import AF4_64, BOF4_64, BOF4S_64, E2M1, FP4, NF4, Codebook, get, integer, normal_float
from theory.sources import GGD


@pytest.mark.parametrize(("codebook", "name"), [(NF4, "nf4"), (FP4, "fp4"), (AF4_64, "af4")])
def test_tables_of_bitsandbytes(codebook, name):
    functional = pytest.importorskip("bitsandbytes.functional")
    table = np.unique(functional.get_4bit_type(name, device="cpu", blocksize=64).numpy())
    # It divides in float32; its table of NF4 is divided by 1.
    assert np.abs(codebook.levels - table).max() <= (0 if name == "nf4" else 2.0**-24)


@pytest.mark.parametrize(("codebook", "name"), [(NF4, "nf4"), (FP4, "fp4")])
def test_bitsandbytes_rounds_to_them(codebook, name):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("bitsandbytes.functional")
    x = torch.linspace(-1, 1, 64 * 999)
    x = torch.cat([torch.cat([piece, torch.ones(1)]) for piece in x.split(63)])  # a 1 in each block: absmax is 1
    x = x[: len(x) // 64 * 64]
    there = functional.dequantize_4bit(*functional.quantize_4bit(x, blocksize=64, quant_type=name)).numpy()
    assert np.array_equal(np.unique(there), codebook.levels.astype(np.float32))
    error = np.abs(x.numpy()[:, None] - codebook.levels.astype(np.float32)).min(axis=1)
    # Its thresholds are rounded to float32, and to six digits in its source.
    assert np.all(np.abs(x.numpy() - there) <= error + tolerances.BNB_THRESHOLD)


def test_e2m1_from_its_bits():
    values = set()
    for sign, exponent, mantissa in itertools.product((1, -1), range(4), range(2)):
        values.add(sign * (2.0 ** (exponent - 1) * (1 + mantissa / 2) if exponent else mantissa / 2))
    assert sorted(v / 6 for v in values) == E2M1.levels.tolist()
    assert len(E2M1) == 15


def by_scipy(bits, offset):
    p = np.linspace(offset, 0.5, 2 ** (bits - 1) + 1)[:-1], np.linspace(offset, 0.5, 2 ** (bits - 1))[:-1]
    levels = np.concatenate([stats.norm.isf(1 - p[0]), [0.0], -stats.norm.isf(1 - p[1])])
    return np.sort(levels) / levels.max()


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_normal_float_is_made_of_gaussian_quantiles(bits):
    offset = 1 - (1 / 2 ** (bits + 1) + 1 / (2 * (2**bits - 1))) / 2
    made = normal_float(bits)
    assert len(made) == 2**bits
    assert made.bits == bits
    assert made.levels == pytest.approx(by_scipy(bits, offset), abs=tolerances.NORMAL_QUANTILE)
    assert normal_float(bits, offset=0.9).levels == pytest.approx(by_scipy(bits, 0.9), abs=tolerances.NORMAL_QUANTILE)


def test_shipped_nf4_is_the_construction_from_float32_probabilities():
    assert 1.8e-7 < np.abs(normal_float(4).levels - NF4.levels).max() < 1.95e-7
    linspace = pytest.importorskip("torch").linspace
    positive, negative = (stats.norm.ppf(linspace(0.9677083, 0.5, n + 1)[:-1].numpy().astype(float)) for n in (8, 7))
    table = np.sort(np.concatenate([positive, [0], -negative])).astype(np.float32)
    assert np.array_equal(table / table.max(), NF4.levels.astype(np.float32))


def test_normal_float_in_every_arithmetic():
    with mp.workdps(40):
        offset = 1 - (mpf(1) / 32 + mpf(1) / 30) / 2
        exact = normal_float(4, offset=offset).levels
        largest = erfinv(2 * offset - 1)
        # The level after the largest, straight from the error function.
        second = erfinv(2 * (mpf(1) / 2 + (offset - mpf(1) / 2) * 7 / 8) - 1) / largest
        assert abs(exact[-2] / second - 1) < mpf(10) ** -38
        assert abs(erf(largest) - (2 * offset - 1)) < mpf(10) ** -38
        assert [float(x) for x in exact] == pytest.approx(normal_float(4).levels, abs=tolerances.NORMAL_QUANTILE)
    balls = normal_float(4, offset=1 - (arb(1) / 32 + arb(1) / 30) / 2).levels
    assert balls[0] == -1
    assert balls[7] == 0
    assert balls[-1] == 1
    for ball, level in zip(balls, exact, strict=True):
        assert abs(ball - arb(str(level))) < 1e-13
        assert ball.rad() < 1e-13


@pytest.mark.parametrize("bits", range(2, 9))
def test_integers_have_the_levels_of_the_format(bits):
    # AUDIT row 11: four bits have 15 or 16 levels, never 17.
    symmetric, full = integer(bits), integer(bits, symmetric=False)
    assert (len(symmetric), len(full)) == (2**bits - 1, 2**bits)
    assert (symmetric.levels[0], symmetric.levels[-1]) == (-1, 1)
    assert (full.levels[0], full.levels[-1]) == (-1, 1 - 2.0 ** (1 - bits))
    for codebook in (symmetric, full):
        assert 0 in codebook.levels
        assert np.diff(codebook.levels) == pytest.approx(2 * codebook.largest_half_gap, rel=1e-12)
        assert get(codebook.name).levels.tolist() == codebook.levels.tolist()


def test_optimal_codebooks_are_what_the_optimizer_finds():
    for codebook, fixed in ((BOF4_64, (-1, 0, 1)), (BOF4S_64, (0, 1))):
        found = best_codebook(16, 64, GGD(2.0), fixed)
        assert found.scaling == codebook.scaling
        assert np.abs(found.levels - codebook.levels).max() < tolerances.REDERIVED
        assert (codebook.levels > 0).sum() == 8
    # 0 and the sign of the scale part the two halves: the positive ones solve the same problem.
    assert BOF4S_64.levels[8:] == pytest.approx(BOF4_64.levels[8:], abs=tolerances.REDERIVED)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([-1.0, 0.5, 0.5], r"levels must be strictly increasing: levels\[2\] = 0.5 follows 0.5"),
        ([0.0, -1.0], "strictly increasing"),
        ([-1.0, 0.0, 1.5], r"levels\[2\] = 1.5 is outside \[-1, 1\]"),
        ([0.0, float("nan")], r"levels\[1\] = nan is outside"),
        ([], "non-empty"),
    ],
)
def test_what_is_no_codebook_is_refused(levels, message):
    with pytest.raises(ValueError, match=message):
        Codebook("broken", levels, 4)


def test_a_codebook_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        NF4.levels[0] = 0.0
    with pytest.raises(AttributeError):
        NF4.name = "other"


def test_largest_half_gap():
    assert NF4.largest_half_gap == pytest.approx((1 - 0.6961928009986877) / 2, abs=1e-16)
    assert FP4.largest_half_gap == pytest.approx((12 - 8) / 24)


@pytest.mark.parametrize("codebook", [NF4, FP4, E2M1, AF4_64, BOF4_64, BOF4S_64])
def test_get_knows_each_by_its_name(codebook):
    assert get(codebook.name) is codebook
    assert get(codebook.name.upper().replace("-", "_")) is codebook
    assert codebook.bits == 4
    assert codebook.origin
    assert 0 in codebook.levels
    assert codebook.levels[-1] == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("nf5", "did you mean nf4"), ("bof4", "bof4-64"), ("int4x", "did you mean int4"),
     ("int", "did you mean int"), ("zzzz", "there are nf4, fp4, .*int4-asymmetric")],
)  # fmt: skip
def test_get_suggests(name, message):
    with pytest.raises(ValueError, match=message):
        get(name)


@pytest.mark.parametrize("call", [lambda: integer(1), lambda: integer(17), lambda: integer(2.5),
                                  lambda: normal_float(1), lambda: normal_float(4, offset=0.5),
                                  lambda: normal_float(4, offset=1.0), lambda: get("int99")])  # fmt: skip
def test_domains(call):
    with pytest.raises(ValueError, match="is outside"):
        call()


def test_get_docstring_names_the_registry():
    for name in codebooks._CODEBOOKS:
        assert name in get.__doc__
