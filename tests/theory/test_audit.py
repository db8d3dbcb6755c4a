"""The audit: what the seeds report comes out of their errors, and what is true out of independent arithmetic."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from theory import audit
from theory.audit import D_REFERENCE, gap_table, markdown, reported_entropy, rows


@pytest.fixture(scope="module")
def audited():
    return {row.number: row for row in rows()}


def test_every_row_is_there_and_ends_in_a_verdict(audited):
    assert list(audited) == list(range(1, 21))
    for row in audited.values():
        assert row.verdict in {"confirmed", "corrected", "not reproducible here"}
        assert row.reason
        assert row.where
        if row.verdict == "corrected":
            assert any(v.true is not None for v in row.values), f"row {row.number} corrects nothing"


def test_the_reported_gaps_are_the_nats_error():
    """To the printed digits, at every distortion: the gap column needs no R(D) at all."""
    for row in gap_table():
        assert round((math.log2(math.e) - 1) / row.beta, 2) == row.printed_gap
        assert round(row.slb_in_mixed_units, 2) == row.printed_slb


def test_the_reported_gaps_are_refuted():
    for row in gap_table():
        low, high = row.gap
        assert 0 <= low <= high < 1e-6 < row.printed_gap / 1e5
    # At beta = 1.3 and 1.7 even the printed R is impossible: half a unit above it lies below the certified lower end.
    first, second, third = gap_table()
    assert first.printed_rate + 0.005 < first.lower
    assert second.printed_rate + 0.005 < second.lower
    assert round(third.lower, 2) == third.printed_rate


def test_mixed_units_at_the_gaussian():
    """h of the standard Gaussian is 1/2 log2(2 pi e); the seeds' formula gives (log2 e - 1)/2 less."""
    reported = reported_entropy(2.0, math.sqrt(2))
    assert abs(stats.norm.entropy() / math.log(2) - reported - (math.log2(math.e) - 1) / 2) < 1e-14


def value(row, index=0):
    return row.values[index].true


def test_figures_by_other_means(audited):
    assert round(audited[3].values[0].reported, 2) == 1.33
    assert abs(value(audited[3]) - stats.norm.entropy() / math.log(2)) < 1e-14
    assert 0.59 < value(audited[4])[0] <= value(audited[4])[1] < 0.60
    assert round(value(audited[4], 2), 3) == 0.585
    assert round(value(audited[5]), 2) == 1.34
    assert abs(value(audited[6]) + 2 * math.log(2)) < 1e-14
    assert round(value(audited[7]), 1) == 12.7
    assert value(audited[11]) == 17
    assert [round(v.true, 3) for v in audited[18].values] == [4.5, 4.127]
    assert abs(value(audited[19]) - 0.0095010080081919) < 1e-13  # moments that cancel to it
    assert [round(v.true, 3) for v in audited[20].values] == [3.155, 3.515]


def test_best_clip_by_brute_force(audited):
    """16 midrise levels on the Gaussian, their error by integrating over each cell."""

    def error(clip):
        levels = (np.arange(16) - 7.5) * clip / 8
        edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
        return sum(
            stats.norm.expect(lambda x, level=level: (x - level) ** 2, lb=a, ub=b)
            for level, a, b in zip(levels, edges[:-1], edges[1:], strict=True)
        )

    best = optimize.minimize_scalar(error, bounds=(2, 4), method="bounded", options={"xatol": 1e-6})
    clip, lost = audited[9].values[-2:]
    assert abs(clip.true - best.x) < 1e-4  # a minimum: 1e-4 off costs 1e-8 of it
    assert clip.reported == 2.5
    assert abs(lost.true - math.log2(error(2.5) / best.fun) / 2) < 1e-6


def test_power_of_six_points_by_simulation(audited):
    draws = np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], size=(40_000, 6))
    x, y = (draws[..., i] - draws[..., i].mean(1, keepdims=True) for i in (0, 1))
    r = (x * y).sum(1) / np.sqrt((x**2).sum(1) * (y**2).sum(1))
    critical, power = value(audited[10]), value(audited[10], 1)
    share = np.mean(abs(r) > critical)
    assert abs(share - power) < 4 * math.sqrt(power * (1 - power) / len(r))
    t = critical * math.sqrt(4 / (1 - critical**2))
    assert abs(2 * stats.t.sf(t, 4) - 0.05) < 1e-12


def test_the_reference_distortion_is_within_the_range_that_it_claims(monkeypatch):
    def column(D):
        return [round(reported_entropy(b, 1 / math.sqrt(math.gamma(3 / b) / math.gamma(1 / b)))
                      - 0.5 * math.log2(2 * math.pi * math.e * D), 2) for b in (1.3, 1.7, 2.0)]  # fmt: skip

    assert column(0.00880) == column(D_REFERENCE) == column(0.00884) == [3.04, 3.15, 3.19]
    assert column(0.00886) != column(D_REFERENCE)


def test_markdown_shows_every_figure(audited):
    table = markdown()
    assert table.count("\n") == 1 + sum(max(len(row.values), 1) for row in audited.values())
    assert audit.rows()[0].where in table
