"""Nats, bits, decibels."""

import math

import numpy as np
import pytest
import sympy
from flint import arb
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from theory.units import decibels, from_nats, to_nats


def test_bits():
    assert from_nats(math.log(8)) == pytest.approx(3, rel=1e-15)
    assert from_nats(1.5, math.e) == 1.5
    assert from_nats(math.log(1000), 10) == pytest.approx(3, rel=1e-15)
    assert from_nats(np.log([2.0, 4.0])).tolist() == [1.0, 2.0]
    assert from_nats(sympy.log(2)) == 1
    assert from_nats(arb(8).log()).contains(3)
    with mp.workdps(50):
        assert abs(from_nats(mp.log(8)) - 3) < mpf(10) ** -48


@given(st.floats(-100, 100), st.sampled_from([2, math.e, 10, 0.5, 256]))
def test_round_trip(value, base):
    assert to_nats(from_nats(value, base), base) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("base", [0, 1, -2, math.inf, math.nan])
def test_no_base(base):
    for convert in (from_nats, to_nats):
        with pytest.raises(ValueError, match=r"base = .* must be positive, finite, not 1"):
            convert(1.0, base)


def test_decibels():
    assert decibels(4.0) == pytest.approx(6.0206, abs=1e-5)
    assert decibels(mpf(10)) == 10
    assert decibels(arb(100)).contains(20)
    # 6.02 dB a bit, 2 ln 2 in ln D: THEORY.md section 2 and AUDIT row 6
    assert decibels(4.0) / 10 * math.log(10) == pytest.approx(2 * math.log(2), rel=1e-15)
