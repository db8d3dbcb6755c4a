"""Integer bits: against exact dynamic programming, and the certificate against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tolerances import SUM, close
from theory.bit_allocation import integer_allocation
from theory.geometry import reverse_waterfilling


def dynamic_program(table, budget, counts):
    """The least distortion within the budget, exactly: best[s] with at most s bits."""
    best = np.zeros(budget + 1)
    for d, c in zip(table, counts, strict=True):
        options = np.full((len(d), budget + 1), np.inf)
        for b in range(len(d)):
            if c * b <= budget:
                options[b, c * b :] = best[: budget + 1 - c * b] + c * d[b]
        best = options.min(axis=0)
    return best[budget]


tables = st.integers(1, 6).flatmap(
    lambda width: st.lists(st.lists(st.floats(0, 10), min_size=width, max_size=width), min_size=1, max_size=6)
)


@given(tables, st.integers(0, 60), st.data())
def test_bracket_holds_the_optimum_of_any_table(table, budget, data):
    counts = data.draw(st.lists(st.integers(1, 5), min_size=len(table), max_size=len(table)))
    found = integer_allocation(table, budget, counts)
    best = dynamic_program(table, budget, counts)
    slack = SUM * (1 + np.asarray(counts) @ np.max(table, axis=1))
    assert found.lower_bound <= best + slack
    assert best <= found.distortion + slack
    assert found.used == np.asarray(counts) @ found.bits <= budget
    total = sum(c * d[b] for c, d, b in zip(counts, table, found.bits, strict=True))
    assert found.distortion == close(total, abs=slack)
    assert found.gap == close(found.distortion - found.lower_bound, abs=slack)
    if found.status == "optimal":
        assert found.distortion <= best + slack


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=8), st.integers(0, 40))
def test_convex_tables_of_equal_counts_are_solved_exactly(variances, budget):
    table = np.array(variances)[:, None] * 4.0 ** -np.arange(6)
    found = integer_allocation(table, budget)
    assert found.distortion == close(dynamic_program(table, budget, [1] * len(table)), rel=SUM)
    assert found.status == "optimal"


def test_by_brute_force_over_all_allocations():
    rng = np.random.default_rng(2)
    for _ in range(30):
        table, counts, budget = rng.uniform(size=(4, 4)), rng.integers(1, 4, 4), int(rng.integers(0, 20))
        feasible = [b for b in itertools.product(range(4), repeat=4) if counts @ np.array(b) <= budget]
        best = min(float(counts @ table[range(4), b]) for b in map(list, feasible))
        assert best == close(dynamic_program(table, budget, counts), rel=SUM)
        found = integer_allocation(table, budget, counts)
        assert found.lower_bound - SUM <= best <= found.distortion + SUM


def test_leftover_budget_is_used():
    # The hull's second step does not fit; the point above the hull does.
    found = integer_allocation([[10.0, 9.0, 1.0]], 1)
    assert (found.bits.tolist(), found.used, found.status) == ([1], 1, "feasible")
    # A later, flatter step fits where the steep one of a large tensor does not.
    found = integer_allocation([[4.0, 0.0], [1.0, 0.5]], 3, [10, 3])
    assert found.bits.tolist() == [0, 1]


def test_small_gap_for_many_components():
    rng = np.random.default_rng(3)
    variances, counts = np.exp(rng.normal(size=300)), rng.integers(1, 50, 300)
    table = variances[:, None] * 4.0 ** -np.arange(9)
    found = integer_allocation(table, 4 * int(counts.sum()), counts)
    assert found.gap < 1e-4 * found.distortion
    assert found.lower_bound >= reverse_waterfilling(variances, counts=counts, rate=4 * int(counts.sum())).distortion


def test_ends():
    table = [[3.0, 1.0], [2.0, 1.0]]
    assert integer_allocation(table, 0).bits.tolist() == [0, 0]
    rich = integer_allocation(table, 99)
    assert (rich.bits.tolist(), rich.used, rich.gap, rich.multiplier) == ([1, 1], 2, 0.0, 0.0)
    assert integer_allocation([[1.0, 2.0]], 5).bits.tolist() == [0]  # more bits that do harm are not bought


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0, -1.0]], 1), r"distortions\[0, 1\] = -1.0"),
        (([[1.0, np.nan]], 1), r"distortions\[0, 1\] = nan"),
        (([[1.0]], -1), "budget = -1"),
        (([[1.0]], 1.5), "budget = 1.5"),
        (([1.0], 1), "components x"),
        (([[1.0]], 1, [1, 2]), "counts has shape"),
        (([[1.0]], 1, [0]), r"counts\[0\] = 0"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        integer_allocation(*arguments)


def test_it_is_never_worse_than_equal_bits():
    """The steepest step leaves no room for the larger component."""
    found = integer_allocation([[4.0, 1.0, 0.9], [5.0, 4.0, 0.1]], budget=5, counts=[3, 2])
    assert found.bits.tolist() == [1, 1]
    assert (found.distortion, found.used) == (11.0, 5)
    assert found.lower_bound <= found.distortion
    rng = np.random.default_rng(0)
    for _ in range(300):
        table = -np.sort(-rng.exponential(size=(4, 5)), axis=1)
        counts = rng.integers(1, 9, 4)
        equal = int(rng.integers(0, 5))
        found = integer_allocation(table, int(equal * counts.sum()), counts)
        assert found.distortion <= counts @ table[:, equal] * (1 + 1e-12)
        assert found.distortion == close(float(counts @ table[range(4), found.bits]), rel=SUM)
        assert found.used == int(counts @ found.bits) <= equal * counts.sum()
