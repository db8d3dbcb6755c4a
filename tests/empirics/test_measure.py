"""A matrix of known law: every reported number has a true value, and must come within its standard error."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import gennorm

from empirics import checks, quantizers
from empirics.measure import Matrix, Measurement, predicted
from empirics.tensors import TensorInfo
from theory import block_scaling, scalar, shannon
from theory.claims import CLAIMS
from theory.codebooks import NF4
from theory.sources import GGD


def info(tensor, name="model.layers.3.mlp.up_proj.weight"):
    return TensorInfo(name, "up", tuple(tensor.shape), "BF16", None, 0, tensor.nbytes)


def draws(beta, rows=512, columns=1024, scales=1.0, seed=0):
    x = gennorm.rvs(beta, size=(rows, columns), random_state=seed) / gennorm.std(beta)
    return torch.from_numpy((0.02 * scales * x).astype(np.float32)).bfloat16()


@pytest.fixture(scope="module")
def iid():
    tensor = draws(1.7)
    return Matrix(tensor, info(tensor))


@pytest.fixture(scope="module")
def rows_of_unequal_variance():
    scales = np.exp(0.5 * np.random.default_rng(1).normal(size=(512, 1)))
    tensor = draws(1.9, scales=scales)
    return Matrix(tensor, info(tensor)), scales


def test_statistics_of_iid_weights(iid):
    found = iid.statistics
    assert abs(found.beta - 1.7) < 4 * found.beta_error
    assert abs(found.beta_row - 1.7) < 4 * found.beta_row_error
    assert abs(found.kurtosis - gennorm.stats(1.7, moments="k") - 3) < 4 * found.kurtosis_error
    x = iid.tensor.double().numpy()
    assert found.variance == pytest.approx(x.var(), rel=1e-12)
    assert found.mean == pytest.approx(x.mean(), rel=1e-9)
    assert (found.layer, found.role, found.shape, found.displacement) == (3, "up", [512, 1024], 0)
    # Equal rows: the spread is what 1,024 draws a row leave, about Var(x^2)/(4 n ln 2).
    chance = (found.kurtosis - 1) / (4 * 1024 * math.log(2))
    assert found.row_spread_bits == pytest.approx(chance, rel=0.2)


@pytest.mark.parametrize("name", ["nf4", "fp4", "int4"])
def test_predictions_agree_with_measurement_on_iid_weights(iid, name):
    found = iid.measure(quantizers.get(name), 64)
    slope = 0.002 * found.measured_mse  # what an error of beta by its standard error does to the prediction
    assert abs(found.measured_mse - found.predicted_mse_iid) < 4 * (found.mse_error + slope)
    assert abs(found.measured_mse - found.predicted_mse_row) < 4 * (found.mse_error + slope)
    values = iid.tensor.double()
    error = (quantizers.get(name).quantize(iid.tensor, 64).double() - values).square().mean()
    assert found.measured_mse == pytest.approx(float(error / values.var(correction=0)), rel=1e-12)
    assert math.fsum(step.bits for step in found.ledger.steps) == pytest.approx(found.ledger.total, abs=1e-12)


def test_the_standard_error_is_the_spread_of_repetitions():
    found = [Matrix(t, info(t)).measure(quantizers.get("int4"), 64)
             for t in (draws(2.0, rows=64, columns=256, seed=seed) for seed in range(40))]  # fmt: skip
    spread = np.std([m.measured_mse for m in found], ddof=1)
    # 40 repetitions know a standard deviation to 11 %; clusters of 64 rows add 9 %.
    assert np.mean([m.mse_error for m in found]) == pytest.approx(spread, rel=0.45)


def test_rows_of_unequal_variance(rows_of_unequal_variance):
    matrix, scales = rows_of_unequal_variance
    found = matrix.measure(quantizers.get("nf4"), 64)
    assert matrix.statistics.beta < 1.6 < 1.9 - 4 * matrix.statistics.beta_row_error
    assert abs(matrix.statistics.beta_row - 1.9) < 4 * matrix.statistics.beta_row_error
    true_gain = np.exp(np.mean(np.log(scales**2))) / np.mean(scales**2)
    assert matrix.statistics.row_gain == pytest.approx(true_gain, rel=0.01)
    assert abs(found.residual_row) < 0.01 < 0.05 < -found.residual_iid
    shares = {step.name: step.bits for step in found.ledger.steps}
    assert shares["rows"] < -0.03
    assert abs(shares["unexplained"]) < 0.01


def test_scalar_optima_are_those_of_the_matrix_itself(iid):
    lloyd_max, uniform, ecsq = iid.scalar(4)
    law = GGD(1.7)
    # bf16 has 8 bits of mantissa: 16 levels hardly see it; the sample is half a million draws.
    assert lloyd_max == pytest.approx(float(scalar.lloyd_max(law, 16).mse), rel=0.02)
    assert uniform == pytest.approx(float(scalar.uniform(law, 16).mse), rel=0.02)
    assert ecsq == pytest.approx(float(scalar.ecsq(law, rate=4).mse), rel=0.02)
    assert lloyd_max < uniform


def test_a_short_last_block_is_predicted_as_one():
    law, quantizer = GGD(2.0), quantizers.get("int4")
    whole = predicted(quantizer, 64, law, 6400)
    short = predicted(quantizer, 64, law, 6410)
    expected = (6400 * whole + 10 * block_scaling.mse(quantizer.codebook, 10, law)) / 6410
    assert short == pytest.approx(float(expected), rel=1e-12)


def test_blocks_that_straddle_rows_are_measured_as_they_are():
    tensor = draws(2.0, rows=100, columns=250)
    found = Matrix(tensor, info(tensor)).measure(quantizers.get("nf4"), 64)
    assert found.measured_mse == pytest.approx(found.predicted_mse_iid, rel=0.03)


def test_record_round_trip(iid):
    import json

    found = iid.measure(quantizers.get("nf4"), 64)
    assert Measurement.of(json.loads(json.dumps(found.record()))) == found


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_constant_matrix_has_no_gap(value):
    tensor = torch.full((16, 64), value).bfloat16()
    with pytest.raises(ValueError, match=rf"up_proj.weight is constant \({value:g}\)"):
        Matrix(tensor, info(tensor))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_are_named_and_counted(bad):
    tensor = draws(2.0, rows=16, columns=64)
    tensor[3, 5] = bad
    with pytest.raises(ValueError, match=r"up_proj\.weight: 1 of 1024 weights are NaN or infinite"):
        Matrix(tensor, info(tensor))


def test_every_claim_gets_a_verdict(iid):
    verdicts = checks.judge_all(iid.measure(quantizers.get("nf4"), 64))
    assert [v.claim for v in verdicts] == list(CLAIMS)
    for verdict in verdicts:
        assert verdict.reason
        if CLAIMS[verdict.claim].measured:
            assert verdict.verdict == "holds", verdict
            assert verdict.margin == verdict.rhs - verdict.lhs
        else:
            assert (verdict.verdict, verdict.margin) == ("inapplicable", None)


def test_rows_of_unequal_variance_refute_the_iid_model(rows_of_unequal_variance):
    matrix, _ = rows_of_unequal_variance
    verdicts = {v.claim: v for v in checks.judge_all(matrix.measure(quantizers.get("nf4"), 64))}
    assert verdicts["block.best-codebook"].verdict == "violated"
    assert verdicts["block.best-codebook"].margin < -4 * verdicts["block.best-codebook"].standard_error
    # What assumes nothing, or rows, still holds.
    assert all(v.verdict == "holds" for c, v in verdicts.items()
               if CLAIMS[c].measured and CLAIMS[c].model != "iid")  # fmt: skip


def test_a_wrong_measurement_is_caught(iid):
    """The verdicts can fail: feed them numbers that no quantizer can produce."""
    from dataclasses import replace

    honest = iid.measure(quantizers.get("nf4"), 64)
    limit = float(shannon.distortion_lower_bound(GGD(honest.statistics.beta_row), honest.effective_bits))
    for field, value, claim in [
        ("measured_mse", 0.9 * limit, "block.converse"),
        ("worst", 1.001 * NF4.largest_half_gap, "block.error-pointwise"),
        ("measured_mse", 1.001 * honest.absmax_second_moment * NF4.largest_half_gap**2, "block.error-mean-square"),
        ("absmax_mean", 1.05 * honest.absmax_mean, "block.absmax-mean-upper"),
        ("absmax_mean", 0.88 * honest.absmax_mean, "block.absmax-mean-lower"),
        ("lloyd_max_mse", 1.001 * honest.uniform_mse, "scalar.lloyd-max-below-uniform"),
    ]:
        verdict = checks.judge(CLAIMS[claim], replace(honest, **{field: value, "mse_error": 1e-9}))
        assert verdict.verdict == "violated", (field, verdict)
