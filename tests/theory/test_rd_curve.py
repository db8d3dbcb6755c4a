"""R(D) between solved points: held to R(D) solved there, and to closed forms."""

import math

import numpy as np
import pytest

from tests.tolerances import close
from theory.rate_distortion import curve, solve
from theory.rd_curve import brackets, of_cells
from theory.sources import GGD, Histogram

ATOMS = Histogram(np.array([-2.0, -1.0, 0.0, 0.5, 3.0]), np.array([1, 4, 10, 4, 2]))


@pytest.mark.parametrize("source", [GGD(0.8), GGD(1.5, 0.02), ATOMS], ids=["heavy", "weights", "atoms"])
def test_the_bracket_holds_what_is_solved_there(source):
    variance = float(source.variance)
    points = curve(source, [variance * d for d in (0.02, 0.3)], tol=1e-5)
    Ds = variance * np.array([0.004, 0.02, 0.07, 0.25, 0.5, 0.95])
    lower, upper = brackets(source, points, Ds)
    for D, low, high in zip(Ds, lower, upper, strict=True):
        there = solve(source, D, tol=1e-5)
        assert low <= there.upper
        assert high >= there.lower
    assert upper[1] - lower[1] <= 1e-5
    assert np.all(upper >= lower)


def test_of_a_gaussian_no_point_is_needed():
    lower, upper = brackets(GGD(2.0, 3.0), [], np.array([[9 * 2.0**-2], [9 * 2.0**-8]]))
    assert lower == close(np.array([[1.0], [4.0]]), abs=1e-12)
    assert upper == close(np.array([[1.0], [4.0]]), abs=1e-12)


def test_the_width_is_what_the_shape_costs():
    law = GGD(1.0)
    fine, coarse = (solve(law, D) for D in (0.01, 0.16))
    lower, upper = brackets(law, [coarse, fine], 0.04)
    rise = (coarse.upper + math.log2(0.16) / 2) - (fine.lower + math.log2(0.01) / 2)
    assert 0 < upper - lower <= rise + 1e-12


def test_beyond_the_points():
    found = solve(ATOMS, 0.05)
    lower, upper = brackets(ATOMS, [found], [1e-9, 5.0, ATOMS.variance])
    assert lower[0] == found.lower
    assert lower[1:].tolist() == upper[1:].tolist() == [0.0, 0.0]
    assert upper[0] == close(found.upper + math.log2(0.05 / 1e-9) / 2)


def test_a_distortion_is_positive():
    with pytest.raises(ValueError, match="D = 0"):
        brackets(ATOMS, [], 0.0)


def test_the_means_of_cells_bracket_the_source():
    rng = np.random.default_rng(0)
    values = np.sort(rng.normal(size=256))
    counts = rng.integers(1, 20, 256)
    weight = counts.reshape(-1, 4).sum(1)
    means = (values * counts).reshape(-1, 4).sum(1) / weight
    squares = ((values.reshape(-1, 4) - means[:, None]) ** 2 * counts.reshape(-1, 4)).sum() / counts.sum()
    exact, cells = Histogram(values, counts), Histogram(means, weight)
    for D in (0.02, 0.3):
        there, coarse = solve(exact, D, tol=1e-5), solve(cells, D, tol=1e-5)
        low, high = of_cells(coarse.lower, coarse.upper, D, math.sqrt(squares))
        assert low <= there.upper
        assert high >= there.lower
        assert low >= coarse.lower - math.log2(1 + math.sqrt(squares / D)) - 1e-12
    assert high < there.lower + 0.02
    assert of_cells(3.0, 3.0, squares / 2, math.sqrt(squares))[1] == math.inf


def test_the_formula_of_the_cells():
    low, high = of_cells(2.0, 2.5, 0.04, 0.1)
    assert low == close(2.0 - math.log2(1.5))
    assert high == close(2.5 + math.log2(0.04 / 0.03) / 2)
    assert of_cells(0.1, 0.2, 0.04, 0.1)[0] == 0
