"""``quantgap run rate-distortion``: quantizers by brute force, known laws, known curves, the command."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from typer.testing import CliRunner

from empirics import histogram, tensors
from empirics.cli import app
from empirics.cli_run import numbers
from empirics.experiments import result
from empirics.experiments.rate_distortion import experiment as rate_distortion
from empirics.experiments.rate_distortion import sweep, tables
from empirics.experiments.rate_distortion.interpolation import rate_at
from empirics.experiments.rate_distortion.notebook import lloyd
from empirics.experiments.rate_distortion.views import by_quantizer, named, views
from empirics.store import Store
from empirics.tensors import TensorInfo
from tests.tolerances import CLOSED_FORM, STANDARD_ERRORS, SUM, close
from theory import rate_distortion as rd
from theory.entropy_coded import GISH_PIERCE, ecsq
from theory.sources import GGD

RUN = CliRunner()
FLOAT32 = 1e-6  # a sum of thousands of squares, each of a float32 difference of float32 numbers
SMALL = (24, 96)
DOWN = "model.layers.1.mlp.down_proj.weight"


def draws(shape: tuple[int, ...], seed: int, sigma: float = 0.02) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, sigma, shape)).bfloat16()


def info(tensor: torch.Tensor, name: str = DOWN) -> TensorInfo:
    return TensorInfo(name, tensors.role(name), tuple(tensor.shape), "BF16", Path("x"), 0, 0)


def row(record: dict, quantizer: str, bits: float, block: str = "tensor", kept: str = "fp32", d: int = 1) -> dict:
    (found,) = [
        r for r in record["quantizers"]
        if (r["quantizer"], r["nominal_bits"], r["block_size"], r["scale_format"], r["dimension"])
        == (quantizer, bits, block, kept, d)
    ]  # fmt: skip
    return found


@pytest.fixture(scope="module")
def small() -> tuple[np.ndarray, dict]:
    """A matrix and its record, without vector quantizers."""
    tensor = draws(SMALL, 1)
    return tensor.double().numpy(), rate_distortion.measure(tensor, info(tensor), (2, 4), (0.02, 0.3), vectors=False)


# Quantizers, each written out in numpy.


def nearest(x: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return levels[np.abs(x[..., None] - levels).argmin(-1)]


def relative(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean((x - y) ** 2) / x.var())


def test_one_scale_for_the_tensor(small):
    x, record = small
    top, n = np.abs(x).max(), x.size
    for bits in (2, 4):
        expected = {
            "asymmetric": (np.linspace(x.min(), x.max(), 2**bits), bits, 2),
            "symmetric": (np.linspace(-top, top, 2**bits), bits, 1),
            "clipped_3_sigma": (3 * x.std() * np.linspace(-1, 1, 2**bits), bits, 1),
            "notebook_symmetric": (2 * top / (2**bits - 1) * np.arange(-(2**bits) // 2, 2**bits // 2 + 1),
                                   math.log2(2**bits + 1), 1),
        }  # fmt: skip
        for name, (levels, index_bits, parameters) in expected.items():
            found = row(record, name, bits)
            assert found["mse"] == close(relative(x, nearest(x, levels)), rel=SUM), name
            assert found["effective_bits"] == close(index_bits + 32 * parameters / n, rel=CLOSED_FORM), name
            assert (found["mse_error"], found["gap_error"], found["family"]) == (0, 0, "scalar")


def test_groups_and_rows(small):
    x, record = small
    for bits, size in ((2, 16), (4, 32)):
        groups = x.reshape(-1, size)
        scale = np.abs(groups).max(1, keepdims=True).astype(np.float16).astype(float)
        y = scale * nearest(groups / scale, np.linspace(-1, 1, 2**bits))
        found = row(record, "sym", bits, str(size), "fp16")
        assert found["mse"] == close(relative(groups, y), rel=FLOAT32)
        assert found["effective_bits"] == close(bits + 16 / size, rel=CLOSED_FORM)
    scale = np.abs(x).max(1, keepdims=True).astype(np.float16).astype(float)
    found = row(record, "int", 4, "row", "fp16")
    assert found["mse"] == close(relative(x, scale * nearest(x / scale, np.arange(-7, 8) / 7)), rel=FLOAT32)
    assert found["effective_bits"] == close(4 + 16 / SMALL[1], rel=CLOSED_FORM)
    groups = x.reshape(-1, 32)
    step, low = (groups.max(1) - groups.min(1)) / 15, groups.min(1)
    step, low = (v[:, None].astype(np.float16).astype(float) for v in (step, low))
    found = row(record, "asym", 4, "32", "fp16")
    y = low + step * np.clip(np.rint((groups - low) / step), 0, 15)
    assert found["mse"] == close(relative(groups, y), rel=1e-4)  # a weight in the middle may go to either side
    assert found["effective_bits"] == close(5.0, rel=CLOSED_FORM)


def test_gaps_are_of_what_was_measured(small):
    x, record = small
    law = GGD(record["matrix"]["beta"])
    for name in ("lloyd_max", "entropy_coded"):
        found = row(record, name, 2)
        rate, D = found["effective_bits"], found["mse"]
        assert found["gap_gaussian"] == close(rate - math.log2(1 / D) / 2, rel=CLOSED_FORM)
        assert found["gap_gaussian_nominal"] == close(2 - math.log2(1 / D) / 2, rel=CLOSED_FORM)
        # The fitted law's own scale is the likeliest one: its variance is not the matrix's.
        scale = record["matrix"]["entropy_power"] / (4 ** float(law.entropy()) / (2 * math.pi * math.e))
        solved = rd.solve(law, D * x.var() / scale, tol=1e-7)
        assert found["gap_lower"] <= rate - solved.lower
        assert found["gap_upper"] >= rate - solved.upper
        assert 0 <= found["gap_upper"] - found["gap_lower"] < 2e-3
        shannon = float(law.entropy()) + math.log2(scale) / 2 - math.log2(2 * math.pi * math.e * D * x.var()) / 2
        assert found["gap_slb"] == close(rate - shannon, rel=CLOSED_FORM)


def test_limits_are_those_of_the_sources(small):
    x, record = small
    atoms = histogram.exact(torch.from_numpy(x))
    for found, target in zip(record["limits"], (0.02, 0.3), strict=True):
        solved = rd.solve(atoms, target * x.var(), tol=1e-6)
        assert found["histogram_lower"] <= solved.upper
        assert found["histogram_upper"] >= solved.lower
        assert found["histogram_upper"] - found["histogram_lower"] <= 1e-4
        assert found["gaussian"] == close(math.log2(1 / target) / 2, rel=CLOSED_FORM)
        assert found["slb"] <= found["law_lower"] + 1e-12 <= found["law_upper"] + 2e-12
        assert found["target"] == target
    curves = pd.DataFrame(record["theory"]).groupby("curve")
    assert set(curves.groups) == {"rd_law", "rd_histogram", "lloyd_max_law", "ecsq_law"}
    assert len(curves.get_group("rd_histogram")) == 6


def test_of_many_atoms_neighbours_are_merged_and_the_bracket_says_so(monkeypatch):
    x = np.random.default_rng(9).normal(size=(32, 64))
    atoms = histogram.exact(torch.from_numpy(x))
    low, high, _ = rate_distortion.of_histogram(atoms, 0.05, 1e-4)
    monkeypatch.setattr(rate_distortion, "ATOMS", 256)
    wide_low, wide_high, status = rate_distortion.of_histogram(atoms, 0.05, 1e-4)
    assert (status, high - low <= 1e-4) == ("converged", True)
    assert low - 0.05 < wide_low < low
    assert high < wide_high < high + 0.05


def test_sensitivity(small):
    x, record = small
    found = record["sensitivity"]
    scale = np.abs(x).max(1, keepdims=True) / 7
    error = (scale * np.rint(x / scale) - x) ** 2
    assert found["mse_absolute"] == close(error.mean(), rel=FLOAT32)
    assert found["mse"] == close(error.mean() / x.var(), rel=FLOAT32)
    assert found["sqnr_db"] == close(10 * math.log10(np.mean(x**2) / error.mean()), rel=FLOAT32)
    assert found["relative_max_error"] == close(math.sqrt(error.max()) / np.abs(x).max(), rel=1e-5)
    # The jackknife is another way to the error of rows drawn independently.
    without = np.array([np.delete(error, i, 0).mean() / np.mean(np.delete(x, i, 0) ** 2) for i in range(len(x))])
    assert found["mse_error"] == close(math.sqrt((len(x) - 1) * without.var()), rel=0.1)


# A Gaussian matrix, whose numbers are known.


@pytest.fixture(scope="module")
def gaussian() -> tuple[torch.Tensor, dict]:
    tensor = draws((256, 512), 2)
    return tensor, rate_distortion.measure(tensor, info(tensor), (2, 4, 5), (0.01,), drawn=False, vectors=False)


def test_a_gaussian_matrix(gaussian):
    tensor, record = gaussian
    known = {
        ("lloyd_max", 2): 0.117481847829, ("lloyd_max", 4): 0.009501008008, ("clipped_optimally", 4): 0.0115428844,
        ("nf4", 4, "64"): 0.00846005, ("fp4", 4, "64"): 0.01487052, ("nf4", 4, "128"): 0.00913562,
    }  # fmt: skip
    for key, truth in known.items():
        # The kurtosis of these errors is below 9, so that their mean square has a deviation below sqrt(8/n).
        tolerance = STANDARD_ERRORS * math.sqrt(8 / tensor.numel())
        assert row(record, *key)["mse"] == close(truth, rel=tolerance), key
    assert row(record, "nf4", 4, "64")["effective_bits"] == 4.5
    # Of 2048 blocks: 8 bits each, and 32 for each 256 of them and for their mean.
    assert row(record, "nf4", 4, "64", "double")["effective_bits"] == close(4 + 8 / 64 + 32 / 16384, rel=1e-4)


def test_entropy_coding_is_a_quarter_bit_above_the_limit(gaussian):
    _, record = gaussian
    found = row(record, "entropy_coded", 5)
    coded = found["gap_lower"] - found["effective_bits"] + found["index_bits"]
    # What a bf16 grid gives away at 5 bits, and what 2**17 weights know of the law.
    assert coded == close(GISH_PIERCE, abs=0.005)
    assert all(r["status"] for r in record["quantizers"])


def test_vector_quantizers_have_errors_and_share_their_tables(gaussian):
    tensor, record = gaussian
    chosen = {("E8", 4), ("kmeans", 2), ("E8_ball", 1), ("product", 3)}
    trials = list(sweep.vectors(tensor, (2, 4)))
    assert {t.family for t in trials} == {"lattice", "vector", "product"}
    assert max(t.nominal_bits for t in sweep.vectors(tensor, (2,))) == 2
    rows = [t.row() for t in trials if (t.quantizer, t.nominal_bits) in chosen]
    variance = record["matrix"]["variance"]
    rate_distortion.add_gaps(rows, variance, GGD(2.0, math.sqrt(variance)), [])
    lattice, ball, *kmeans, product = rows
    # E8 on Gaussian weights at 4 bits, as `empirics.lattice_quantizers` reports it; the code's tables apart.
    coded = lattice["gap_lower"] - lattice["effective_bits"] + lattice["index_bits"]
    assert coded == close(0.150, abs=STANDARD_ERRORS * lattice["gap_error"] + 5e-4)
    pairs = next(r for r in kmeans if r["dimension"] == 2)
    assert pairs["effective_bits"] == close(2 + 32 * 32 / tensor.numel(), rel=CLOSED_FORM)
    assert pairs["gap_error"] == close(pairs["mse_error"] / pairs["mse"] / (2 * math.log(2)), rel=CLOSED_FORM)
    for name in ("gap_lower", "gap_upper", "gap_slb"):  # of a Gaussian law they are one
        assert pairs[name] == close(pairs["gap_gaussian"], rel=CLOSED_FORM)
    assert 0.10 < pairs["mse"] < 0.1175
    assert product["effective_bits"] == close(3 + 32 * 4 * 64 * 2 / tensor.numel(), rel=CLOSED_FORM)
    assert ball["index_bits"] == close(math.log2(241) / 8, rel=CLOSED_FORM)


def test_a_large_matrix_is_sampled_by_rows(monkeypatch):
    monkeypatch.setattr(sweep, "SAMPLE", 2048)
    tensor = draws((128, 64), 3)
    other = tensor.clone()
    other[1::4], other[2::4], other[3::4] = 9.0, 9.0, 9.0
    fours = [[t for t in sweep.vectors(given, [2]) if (t.quantizer, t.dimension) == ("kmeans", 4)]
             for given in (tensor, other)]  # fmt: skip
    whole, part = (trials[0].row() for trials in fours)
    assert whole == part
    assert whole["effective_bits"] == close(1 + 32 * 16 * 4 / tensor.numel(), rel=CLOSED_FORM)


# What cannot be measured, or has no gap.


def test_what_cannot_be_measured_says_why():
    tensor = draws((16, 64), 4, sigma=1e6)
    record = rate_distortion.measure(tensor, info(tensor), (4,), (0.1,), drawn=False, vectors=False)
    found = row(record, "sym", 4, "64", "fp16")
    assert (found["mse"], found["gap_lower"], found["effective_bits"]) == (None, None, None)
    assert "beyond the largest fp16" in found["status"]
    assert row(record, "sym", 4, "64", "bf16")["mse"] > 0


def test_a_lossless_code_has_no_gap():
    tensor = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0, 1.0, 0.0, -1.0] * 16).reshape(8, 16).bfloat16()
    record = rate_distortion.measure(tensor, info(tensor), (1, 3), (0.1,), drawn=False, vectors=False)
    found = row(record, "lloyd_max", 3)
    assert (found["mse"], found["gap_lower"], found["gap_gaussian"]) == (0, None, None)
    assert row(record, "lloyd_max", 1)["gap_lower"] is not None


def test_a_constant_matrix_is_named():
    tensor = torch.ones(4, 4)
    with pytest.raises(ValueError, match=r"down_proj\.weight is constant"):
        rate_distortion.measure(tensor, info(tensor))


# The rate at a distortion.


@pytest.mark.parametrize("target", [0.03, 0.25, 2.0**-9, 1.0])
def test_a_straight_curve_is_read_exactly(target):
    rates = [4, 0, 2, 1, 5]
    found = rate_at(target, rates, [4.0**-r for r in rates])
    assert found.rate == close(-math.log2(target) / 2, abs=1e-14)
    assert found.error < 1e-14


def test_the_error_holds_the_curve_between():
    law = GGD(1.2)
    knots = [ecsq(law, rate=r) for r in (0.5, 1, 2, 3, 4)]
    inside = 0
    for rate in (0.7, 1.3, 1.5, 1.8, 2.5, 3.6):
        found = rate_at(float(ecsq(law, rate=rate).mse), [q.rate for q in knots], [q.mse for q in knots])
        assert abs(found.rate - rate) < 0.01
        inside += abs(found.rate - rate) <= found.interpolation_error
    assert inside >= 5  # an estimate, not a bound


def test_the_error_of_the_points_is_propagated():
    rates, mses = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.3, 0.1, 0.02, 0.006])
    rate_errors, mse_errors = np.array([0.01, 0.02, 0.04, 0.0]), np.array([0.0, 0.005, 0.0004, 0.0])
    found = rate_at(0.08, rates, mses, rate_errors, mse_errors)
    rng = np.random.default_rng(5)
    again = [np.interp(-math.log(0.08), -np.log(mses + mse_errors * rng.normal(size=4)),
                       rates + rate_errors * rng.normal(size=4)) for _ in range(4000)]  # fmt: skip
    # 4000 draws know a deviation to 1.1 %, and the logarithm is not quite linear over 5 % of a distortion.
    assert found.sampling_error == close(np.std(again), rel=0.06)


def test_nothing_is_extrapolated_and_what_is_bettered_left_out():
    assert rate_at(0.5, [1, 2, 3], [0.25, 0.06, 0.015]) is None
    assert rate_at(0.001, [1, 2, 3], [0.25, 0.06, 0.015]) is None
    assert rate_at(0.1, [2], [0.1]) is None
    assert rate_at(0.1, [1, 2, 3], [0.3, 0.0, 0.0]) is None
    straight = rate_at(2.0**-5, [1, 2, 3, 4], [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8])
    assert rate_at(2.0**-5, [1, 1.5, 2, 3, 4, 9], [2.0**-2, 2.0**-1, 2.0**-4, 2.0**-6, 2.0**-8, 1.0]) == straight
    assert math.isnan(rate_at(0.1, [1, 2], [0.25, 0.0625]).interpolation_error)
    with pytest.raises(ValueError, match="target = 0"):
        rate_at(0.0, [1, 2], [0.25, 0.0625])


# Tables.


@pytest.fixture(scope="module")
def two(small) -> list[dict]:
    """Records of two matrices, of an MLP and of attention."""
    tensor = draws((16, 64), 6)
    name = "model.layers.0.self_attn.q_proj.weight"
    other = rate_distortion.measure(tensor, info(tensor, name), (2, 4), (0.02, 0.3), drawn=False, vectors=False)
    return [small[1], other]


def test_targets(two):
    made = tables.tables(two)
    targets = made["targets"]
    found = targets[(targets["quantizer"] == "lloyd_max") & (targets["target"] == 0.02)]
    assert list(found["status"]) == ["covered"] * 2
    for record, (_, at) in zip(two, found.iterrows(), strict=True):
        low, high = (row(record, "lloyd_max", b) for b in (2, 4))
        share = math.log(low["mse"] / 0.02) / math.log(low["mse"] / high["mse"])
        rate = low["effective_bits"] + share * (high["effective_bits"] - low["effective_bits"])
        assert at["rate"] == close(rate, rel=CLOSED_FORM)
        assert at["nominal_bits"] == close(2 + 2 * share, rel=CLOSED_FORM)
        limit = record["limits"][0]
        for name, end in (("gap_gaussian", "gaussian"), ("gap_slb", "slb"), ("gap_lower", "law_upper"),
                          ("gap_upper", "law_lower"), ("gap_histogram_lower", "histogram_upper"),
                          ("gap_histogram_upper", "histogram_lower")):  # fmt: skip
            assert at[name] == close(rate - limit[end], rel=CLOSED_FORM), name
    beyond = targets[(targets["quantizer"] == "lloyd_max") & (targets["target"] == 0.3)]
    assert list(beyond["status"]) == ["not covered"] * 2
    assert beyond[["rate", "gap_lower", "rate_error"]].isna().all(axis=None)
    assert not (targets["quantizer"] == "nf4").any()  # one point


def test_groups_are_means_over_weights(two):
    frame = tables.tables(two)["groups"]
    mine = frame[(frame["quantizer"] == "lloyd_max") & (frame["nominal_bits"] == 4)].set_index("group")
    assert set(mine.index) == {"attention", "MLP", "all"}
    values = np.array([row(r, "lloyd_max", 4)["gap_lower"] for r in two])
    share = np.array([r["matrix"]["weights"] for r in two]) / sum(r["matrix"]["weights"] for r in two)
    mean = float(share @ values)
    assert mine.loc["all", "gap_lower"] == close(mean, rel=CLOSED_FORM)
    error = math.sqrt(2 * share**2 @ (values - mean) ** 2)
    assert mine.loc["all", "gap_lower_error"] == close(error, rel=CLOSED_FORM)
    assert mine.loc["attention", "gap_lower"] == close(values[1], rel=CLOSED_FORM)
    assert math.isnan(mine.loc["attention", "gap_lower_error"])
    assert mine.loc["all", "matrices"] == 2
    without = two[1] | {"quantizers": [q for q in two[1]["quantizers"] if q["quantizer"] != "lloyd_max"]}
    frame = tables.tables([two[0], without])["groups"]
    assert set(frame[frame["quantizer"] == "lloyd_max"]["group"]) == {"MLP"}  # a mean of all is of all


def test_the_representative_is_the_notebooks(two):
    down, q = two
    for weights in (1, 10**9):
        drawn = q | {"matrix": q["matrix"] | {"drawn": True, "weights": weights}}
        assert tables.representative([drawn, down]) is down
    assert tables.representative([q]) is q


def test_a_quantizer_without_a_column_has_no_row(two):
    groups = tables.tables(two)["groups"]
    ball = {"quantizer": "E8_ball", "dimension": 8, "block_size": "tensor", "scale_format": "fp32"}
    frame = by_quantizer({"groups": pd.concat([groups, groups.iloc[-1:].assign(nominal_bits=1.5, **ball)])}).frame
    assert list(frame.columns[:4]) == ["quantizer", "2 bits", "2 bits_error", "4 bits"]
    assert "Lloyd-Max" in set(frame["quantizer"])
    assert "E8 lattice, ball" not in set(frame["quantizer"])
    best = groups[(groups["group"] == "all") & (groups["quantizer"] == "lloyd_max")].set_index("nominal_bits")
    shown = frame.set_index("quantizer").loc["Lloyd-Max"]
    assert (shown["2 bits"], shown["4 bits_error"]) == (best.loc[2, "gap_upper"], best.loc[4, "gap_upper_error"])


def test_the_matrix_shown_is_of_the_middle_layer():
    def of(name: str, rows: int = 8) -> TensorInfo:
        return TensorInfo(name, tensors.role(name), (rows, 8), "BF16", Path("x"), 0, 0)

    infos = [of(f"model.layers.{i}.mlp.{p}_proj.weight") for i in range(5) for p in ("up", "down")]
    infos += [of("model.embed_tokens.weight"), of("model.layers.0.mlp.experts.0.gate_proj.weight", 2),
              of("model.layers.0.mlp.experts.1.gate_proj.weight", 4)]  # fmt: skip
    assert rate_distortion.middle(infos) == {
        "model.layers.2.mlp.up_proj.weight", "model.layers.2.mlp.down_proj.weight", "model.embed_tokens.weight",
        "model.layers.0.mlp.experts.1.gate_proj.weight",
    }  # fmt: skip


# What the notebook computes.


def lloyd_of_weights(x: np.ndarray, bits: int) -> float:
    """Twenty rounds on the weights themselves, in double precision."""
    levels = np.quantile(x, np.arange(1, 2**bits + 1) / (2**bits + 1))
    for _ in range(20):
        nearest_level = np.abs(x[:, None] - levels).argmin(1)
        levels = np.array([x[nearest_level == i].mean() if np.any(nearest_level == i) else levels[i]
                           for i in range(2**bits)])  # fmt: skip
    return float(np.mean((x - levels[np.abs(x[:, None] - levels).argmin(1)]) ** 2))


@pytest.mark.parametrize("bits", [1, 3, 5])
def test_the_notebooks_lloyd_max(bits):
    tensor = draws((4000,), 7)
    x = tensor.double().numpy()
    # A weight in the middle of two levels, to float32, may go to either: 4000 weights, and it moves the levels on.
    assert lloyd(histogram.exact(tensor), bits) == close(lloyd_of_weights(x, bits), rel=1e-3)


def test_the_notebooks_table(two, small):
    x, _ = small
    kept = tables.summary(two, tables.tables(two))
    assert kept["representative"] == DOWN
    reported, corrected = kept["notebook"]["reported"], kept["notebook"]["corrected"]
    assert set(reported) == {"bits", "shannon_d", "uniform_asym", "uniform_sym", "clipped_3sigma", "group_128",
                             "group_32", "lloyd_max", "group_128_rate", "group_32_rate"}  # fmt: skip
    assert set(reported) <= set(corrected)
    assert reported["bits"] == [2, 4]
    top = np.abs(x).max()
    step = 2 * top / 15
    assert reported["uniform_sym"][1] == close(np.mean((x - step * np.rint(x / step)) ** 2), rel=SUM)
    assert corrected["uniform_sym"][1] == close(np.mean((x - nearest(x, np.linspace(-top, top, 16))) ** 2), rel=SUM)
    clip = 3 * x.std()
    step = 2 * clip / 15
    clipped = step * np.where(np.abs(x) >= clip, 8 * np.sign(x), np.rint(x / step))
    assert reported["clipped_3sigma"][1] == close(np.mean((x - clipped) ** 2), rel=SUM)
    groups = x.reshape(-1, 32)
    step = 2 * np.abs(groups).max(1, keepdims=True) / 15
    assert reported["group_32"][1] == close(np.mean((groups - step * np.rint(groups / step)) ** 2), rel=FLOAT32)
    assert (reported["group_128_rate"], reported["group_32_rate"]) == ([2.125, 4.125], [2.5, 4.5])
    assert corrected["group_32_rate"] == [2.5, 4.5]
    assert reported["shannon_d"] == close([x.var() / 16, x.var() / 256], rel=CLOSED_FORM)
    gaps = tables.tables(two)["notebook"]
    mine = gaps[(gaps["curve"] == "uniform_sym") & (gaps["target"] == 0.3)].iloc[0]
    rate = np.interp(-math.log(0.3 * x.var()), -np.log(reported["uniform_sym"]), [2, 4])
    assert mine["gap_reported"] == close(rate - math.log2(1 / 0.3) / 2, rel=CLOSED_FORM)
    assert gaps[gaps["curve"] == "lloyd_max"].set_index("target").loc[0.3, "status"] == "not covered"


# The command.


@pytest.fixture(scope="module")
def report(bloom, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:  # few points of R(D): most of the time goes there
        patch.setattr(rate_distortion, "SOLVED", (2, 1, 0.3))
        patch.setattr(rate_distortion, "HISTOGRAM_RATES", (1, 2))
        found = RUN.invoke(app, ["run", "rate-distortion", str(bloom), "--out", str(out), "--bits", "2-3",
                                 "--target", "0.05", "--vectors", "none", "--json"])  # fmt: skip
    assert found.exit_code == 0, found.stderr
    return out, json.loads(found.stdout)


def test_the_command(report, bloom, monkeypatch):
    out, document = report
    folder = out / bloom.name / "rate-distortion"
    assert json.loads((folder / "rate-distortion.json").read_text()) == document
    names = [m["name"] for m in document["tables"]["sensitivity"]]
    assert len(names) == 9
    for table in ("quantizers", "theory", "limits", "targets", "groups", "sensitivity", "notebook"):
        frames = pd.read_csv(folder / f"{table}.csv"), pd.read_parquet(folder / f"{table}.parquet")
        for frame in frames:
            assert len(frame) == len(document["tables"][table])
            assert list(frame.columns) == list(document["tables"][table][0])
    quantizers = pd.read_parquet(folder / "quantizers.parquet")
    assert quantizers["mse"].tolist() == [r["mse"] for r in document["tables"]["quantizers"]]
    assert set(quantizers["nominal_bits"]) == {2, 3}
    for figure in ("curves", "gaps", "groups", "limits", "sensitivity"):
        assert (folder / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert document["answer"][0].startswith("At 3 bits what comes closest to R(D) is: uniform, best clip")
    assert "With indices of fixed length" not in document["answer"][0]  # it is of that kind
    assert "Rate and distortion" in (out / "report.html").read_text(encoding="utf-8")

    def again(*_: object) -> dict:
        raise AssertionError("it is kept already")

    monkeypatch.setattr(rate_distortion, "measure", again)
    with Store(out / "measurements.sqlite") as store:
        found = rate_distortion.run(bloom, store=store, bits=(3, 2), targets=(0.05,), vectors="none")
    assert found.json() == document
    with (console := Console(width=120)).capture() as printed:
        console.print(result.printed(found))
    assert "Bits above R(D) of the fitted law" in printed.get()
    assert max(len(line) for line in printed.get().splitlines()) <= 120
    written = result.write(found, out)  # a table and a figure may have the same name
    drawn = [f"{name} (figure)" for name in found.figures]
    assert sorted(written) == sorted(["json", "report", *found.tables, *drawn])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bits", "two"], "give numbers and ranges"),
        (["--bits", "4-2"], "at least one number of bits"),
        (["--bits", "9"], "bits = 9 is above 8"),
        (["--bits", "0"], "bits = 0 is outside"),
        (["--target", "1.5"], "targets = 1.5 is outside"),
        (["--vectors", "some"], "no choice of vectors is called 'some'"),
    ],
)
def test_options_that_are_none(options, message, tmp_path):
    found = RUN.invoke(app, ["run", "rate-distortion", "--out", str(tmp_path), *options])
    assert found.exit_code == 2
    assert message in found.stderr


def test_what_cannot_be_measured_is_named(tmp_path):
    save_file({DOWN: draws((16, 64), 8), "lm_head.weight": torch.ones(64, 64)}, tmp_path / "model.safetensors")
    found = rate_distortion.run(tmp_path, bits=[2], targets=[0.2], vectors="none")
    assert [name for name, _ in found.failures] == ["lm_head.weight"]
    assert "is constant" in found.failures[0][1]
    assert found.tables["targets"].empty  # one point a curve
    assert set(found.tables["notebook"]["status"]) == {"not covered"}
    assert len(views(found.tables)) == 7


def test_numbers_of_an_option():
    assert numbers("bits", "1-3, 8") == [1, 2, 3, 8]
    for text in ("", "1-2-3", "-4", "2.5"):
        with pytest.raises(ValueError, match="--bits"):
            numbers("bits", text)


def test_names_for_readers():
    curve = {"quantizer": "nf4", "dimension": 1, "block_size": "64", "scale_format": "double"}
    assert named(curve) == "NF4, 64 (double scales)"
    assert named(curve | {"quantizer": "kmeans", "block_size": "tensor", "dimension": 4}) == "k-means, d = 4"
