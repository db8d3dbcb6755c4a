"""The spread of isotropic errors against full Jacobians, and against draws of such errors."""

import numpy as np
import pytest
import torch

from empirics.amplification import ALL, first_order, measure
from empirics.spread import Spreads, spreads
from empirics.traces import traces
from tests.empirics import tiny_models
from tests.tolerances import STANDARD_ERRORS

Q, DOWN = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def lm():
    return tiny_models.model(layers=1)


@pytest.fixture(scope="module")
def windows():
    return tiny_models.windows(texts=3, lengths=(3, 5))


@pytest.fixture(scope="module")
def found(lm, windows):
    return spreads(lm, windows, [Q, DOWN], count=80)


def exact(lm, windows, mses):
    """sqrt(2 tr(A^2))/tr(A) of A = J D J', all logits of all windows together."""
    j = [tiny_models.jacobians(lm, list(mses), window) for window in windows]
    rows = [torch.cat([row[name].flatten(0, 1).flatten(1) * m**0.5 for name, m in mses.items()], 1) for row in j]
    gram = torch.cat(rows) @ torch.cat(rows).T
    return float((2 * gram.square().sum()).sqrt() / gram.trace())


@pytest.mark.parametrize("mses", [{Q: 1.0}, {DOWN: 3.0}, {Q: 4.0, DOWN: 1.0}], ids=["one", "another", "both"])
def test_spread_is_that_of_the_full_jacobian(lm, windows, found, mses):
    one, true = found.of(mses), exact(lm, windows, mses)
    assert abs(one.value - true) < STANDARD_ERRORS * one.standard_error
    assert one.standard_error < 0.3 * true, "the test has become blind"
    assert one.effective_rank == pytest.approx(2 / one.value**2)


def test_a_probe_is_not_compared_with_itself():
    """Gradients at right angles: as many directions as there may be, and no spread."""
    assert Spreads([Q], np.diag([1.0, 2.0, 3.0])[None])[Q].value == 0
    # Along one line: a square of a normal, whose relative deviation is sqrt 2.
    assert Spreads([Q], np.ones((1, 4, 4)))[Q].value == pytest.approx(2**0.5)


def test_a_common_factor_changes_nothing(found):
    assert found.of({Q: 1e-6, DOWN: 2e-6}).value == pytest.approx(found.of({Q: 1.0, DOWN: 2.0}).value)
    assert found[Q] == found.of({Q: 1.0})
    assert list(found) == [Q, DOWN]


def test_draws_of_isotropic_errors_spread_so_far(lm, windows, found):
    generator = torch.Generator().manual_seed(0)
    changes = {
        str(i): {name: 0.01 * torch.randn(lm.parameter(name).shape, generator=generator).double() for name in found}
        for i in range(200)
    }
    means = np.array([squares.mean() for squares in first_order(lm, changes, windows).values()])
    # 200 draws know a standard deviation to 5 % or, of skewed values, 10 %.
    true = exact(lm, windows, dict.fromkeys(found, 1.0))
    assert means.std(ddof=1) / means.mean() == pytest.approx(true, rel=0.3)


def test_measurements_carry_it(lm, windows, found):
    weights = {name: lm.parameter(name) * 1.01 for name in found}
    rows = measure(lm, weights, windows, traces(lm, windows, [Q, DOWN], 0.5), spreads=found)
    mses = {row.name: row.weight_mse for row in rows if row.name != ALL}
    assert rows[0].isotropic_spread == found.of(mses)
    assert rows[1].record()["isotropic_spread"] == found[rows[1].name].value
    without = measure(lm, weights, windows, traces(lm, windows, [Q, DOWN], 0.5), each=False)[0]
    assert without.record()["isotropic_spread"] is None


def test_what_is_refused(lm, windows, found):
    with pytest.raises(ValueError, match="count"):
        spreads(lm, windows, [Q], count=2)
    with pytest.raises(ValueError, match="no spread of another"):
        found.of({"another": 1.0})
    with pytest.raises(KeyError):
        found["another"]
