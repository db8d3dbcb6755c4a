"""The best codebook under block scaling: no level can move, and the published ones are found."""

import math

import numpy as np
import pytest

from tests import tolerances
from tests.theory.published_codebooks import (
    AF4,
    BOF4_64_MAE,
    BOF4_64_MSE,
    BOF4_64_THEORETICAL,
    BOF4S_64_MAE,
    BOF4S_MSE,
)
from theory.block_codebook import abnormal_float, best_codebook
from theory.block_scaling import mae, mse
from theory.block_source import BlockSource
from theory.codebook_design import stationary
from theory.codebooks import AF4_64, BOF4_64, BOF4S_64, E2M1, FP4, NF4, Codebook, integer
from theory.sources import GGD, Histogram

close = tolerances.close
FULL = integer(4, symmetric=False)

INTEGRATED = 2e-6  # their integration differs from ours by up to 1.6e-6
DRAWN_SQUARED = 3e-4  # their draws against their own integration: 1.3e-4; against ours 2.9e-4, at block 32
DRAWN_ABSOLUTE = 4e-4  # the outermost medians: 3.3e-4
PRINTED = 5e-9  # half a unit of the eighth digit, and less than that for our own error
ERROR_OF_DRAWN = 2e-6  # what such errors of the levels cost, relative: they count squared


@pytest.mark.parametrize("fixed", [(-1, 0, 1), (0, 1), (-1, 1), (), (0,)])
@pytest.mark.parametrize(("beta", "n", "size"), [(2.0, 64, 16), (1.0, 32, 8), (0.6, 16, 7)])
def test_no_free_level_can_move(beta, n, size, fixed):
    source = GGD(beta)
    best = best_codebook(size, n, source, fixed)
    assert set(fixed) <= set(best.levels)
    assert best.scaling == ("signed" if 1 in fixed and -1 not in fixed else "absmax")
    least, free = mse(best, n, source), [i for i, level in enumerate(best.levels) if level not in fixed]
    assert len(free) == size - len(fixed)
    for i in free:
        up, down = (mse(Codebook("moved", best.levels + h * (np.arange(size) == i), 4, best.scaling), n, source)
                    for h in (1e-4, -1e-4))  # fmt: skip
        assert min(up, down) > least
        assert abs(up - down) < 1e-3 * (up + down - 2 * least)  # the derivative against the second derivative


@pytest.mark.parametrize(("scaling", "fixed"), [("signed", (0, 1)), ("absmax", (-1, 0, 1))])
def test_no_other_place_for_the_zero_is_better(scaling, fixed):
    law, best = BlockSource(GGD(1.5), 64, scaling=scaling), best_codebook(12, 64, GGD(1.5), fixed)
    least = mse(best, 64, GGD(1.5))
    for zero in range(2, 10):
        below, above = np.linspace(-1 if -1 in fixed else -0.9, 0, zero + 1), np.linspace(0, 1, 12 - zero)
        start = np.concatenate([below, above[1:]])
        ends = [0, zero, 11] if -1 in fixed else [zero, 11]
        assert stationary(start, law, fixed=ends).mse >= least * (1 - 1e-12)
    assert (best.levels > 0).sum() >= (best.levels < 0).sum()


@pytest.mark.parametrize(("beta", "n", "size", "level"), [(1.0, 64, 16, 0.6), (2.0, 8, 9, 0.3), (0.6, 16, 5, -0.4)])
def test_no_other_place_for_a_fixed_level_is_better(beta, n, size, level):
    law, least = BlockSource(GGD(beta), n), math.inf
    for place in range(1, size - 1):
        start = np.concatenate([np.linspace(-1, level, place + 1), np.linspace(level, 1, size - place)[1:]])
        least = min(least, stationary(start, law, fixed=[0, place, size - 1]).mse)
    assert mse(best_codebook(size, n, GGD(beta), (-1, level, 1)), n, GGD(beta)) == close(least, rel=1e-9)


def test_optimal_codebooks_beat_the_others():
    at = {c.name: float(mse(c, 64, GGD(2.0))) for c in (NF4, FP4, E2M1, AF4_64, BOF4_64, BOF4S_64, FULL, integer(4))}
    assert sorted(at, key=at.get)[:3] == ["bof4s-64", "bof4-64", "nf4"]
    assert at["bof4-64"] / at["nf4"] == close(0.9446, abs=5e-5)
    assert mae(NF4, 64, GGD(2.0)) < mae(AF4_64, 64, GGD(2.0))


@pytest.mark.parametrize("weight", [None, 0, 2])
@pytest.mark.parametrize("fixed", [(-1, 0, 1), (0, 1), ()])
@pytest.mark.parametrize(("beta", "n", "size"), [(2.0, 64, 16), (0.7, 32, 8)])
def test_no_free_level_can_move_for_the_absolute_error(beta, n, size, fixed, weight):
    best = best_codebook(size, n, GGD(beta), fixed, "mae", weight)
    law = BlockSource(GGD(beta), n, power=1 if weight is None else weight, scaling=best.scaling)
    least = law.mae(best.levels)
    assert set(fixed) <= set(best.levels)
    for i in [i for i, level in enumerate(best.levels) if level not in fixed]:
        up, down = (law.mae(best.levels + h * (np.arange(size) == i)) for h in (1e-4, -1e-4))
        if abs(best.levels[i]) == 1:  # the median is the element that is the scale: no derivative there
            assert (down if best.levels[i] == 1 else up) > least
            continue
        assert min(up, down) > least
        assert abs(up - down) < 1e-3 * (up + down - 2 * least)


@pytest.mark.parametrize("zero", [3, 4, 5, 6, 7, 8])
def test_no_other_place_for_the_zero_has_less_absolute_error(zero):
    law, best = BlockSource(GGD(1.5), 64, power=1), best_codebook(12, 64, GGD(1.5), error="mae")
    levels = np.concatenate([np.linspace(-1, 0, zero + 1), np.linspace(0, 1, 12 - zero)[1:]])
    for _ in range(40):  # the method of Lloyd, with medians found by bisection
        edges = np.r_[-1.0, (levels[1:] + levels[:-1]) / 2, 1.0]
        low, high = edges[:-1].copy(), edges[1:].copy()
        for _ in range(24):
            middle = (low + high) / 2
            left = law.partial_moment(0, edges[:-1], middle) < law.partial_moment(0, middle, edges[1:])
            low, high = np.where(left, middle, low), np.where(left, high, middle)
        levels = np.r_[-1.0, np.delete(middle, [0, zero, 11]), 1.0]
        levels = np.insert(levels, zero, 0.0)
    assert law.mae(levels) >= law.mae(best.levels) * (1 - 1e-9)


def test_published_codebooks_of_least_squared_error():
    assert np.abs(best_codebook(16, 64, GGD(2.0)).levels - BOF4_64_THEORETICAL).max() < INTEGRATED
    assert np.abs(BOF4_64.levels - BOF4_64_MSE).max() < DRAWN_SQUARED
    for n, table in BOF4S_MSE.items():
        best = best_codebook(16, n, GGD(2.0), (0, 1))
        assert np.abs(best.levels - table).max() < DRAWN_SQUARED
        cost = mse(Codebook("table", table, 4, "signed"), n, GGD(2.0)) / mse(best, n, GGD(2.0))
        assert 1 < cost < 1 + ERROR_OF_DRAWN


@pytest.mark.parametrize(("fixed", "table"), [((-1, 0, 1), BOF4_64_MAE), ((0, 1), BOF4S_64_MAE)])
def test_published_codebooks_of_least_absolute_error(fixed, table):
    best = best_codebook(16, 64, GGD(2.0), fixed, "mae")
    assert np.abs(best.levels - table).max() < DRAWN_ABSOLUTE
    cost = mae(Codebook("table", table, 4, best.scaling), 64, GGD(2.0)) / mae(best, 64, GGD(2.0))
    assert 1 < cost < 1 + ERROR_OF_DRAWN


@pytest.mark.parametrize("n", AF4)
def test_abnormal_float_is_the_published_table(n):
    made, best = abnormal_float(n), best_codebook(16, n, GGD(2.0), error="mae", weight=0)
    assert np.abs(made.levels - AF4[n]).max() < PRINTED
    # Not the least error of the normalized weights under its own constraints.
    normalized = BlockSource(GGD(2.0), n, power=0)
    assert normalized.mae(best.levels) / normalized.mae(made.levels) == close(0.9674, abs=3e-4)


def test_abnormal_float_of_other_laws_and_widths():
    made = abnormal_float(64, GGD(1.2), 3)
    assert (len(made), made.levels[0], made.levels[3], made.levels[-1]) == (8, -1, 0, 1)
    assert np.abs(abnormal_float(64, GGD(2.0, 0.02)).levels - abnormal_float(64).levels).max() < tolerances.REDERIVED


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: best_codebook(2, 64, GGD(2.0)), "fixed has 3 levels, more than size = 2"),
        (lambda: best_codebook(16, 64, GGD(2.0), (-2.0, 1.0)), r"fixed\[0\] = -2.0 is outside \[-1, 1\]"),
        (lambda: best_codebook(16, 64, GGD(2.0), error="l1"), "error = 'l1' is neither 'mse' nor 'mae'"),
        (lambda: best_codebook(16, 64, GGD(2.0), weight=-1), "weight = -1.* is outside"),
        (lambda: best_codebook(16, 1, GGD(2.0)), "n = 1.* is outside"),
        (lambda: abnormal_float(64, bits=1), r"bits = 1.* is outside"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_histogram_has_no_density():
    with pytest.raises(TypeError, match="needs a density"):
        best_codebook(4, 64, Histogram([-1.0, 1.0], [1, 1]))
