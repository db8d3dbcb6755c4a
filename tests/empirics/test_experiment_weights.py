"""``quantgap run weights``: numbers of known laws, and the embedded model from the command line."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from scipy import stats
from typer.testing import CliRunner

from empirics import fit
from empirics.cli import app
from empirics.experiments.weights import experiment as weights
from empirics.histogram import exact
from empirics.tensors import TensorInfo
from tests.tolerances import CLOSED_FORM, STANDARD_ERRORS, SUM, close
from theory import ggd
from theory.sources import GGD, Histogram

BETA, SHAPE = 1.6, (512, 512)
# What kl.binned loses to its bins, of the divergence itself.
LOST = 0.007
# Newton stops where the next step is 1e-8 of beta, and sigma moves with beta.
STOPPED = 1e-7
# 200 replications, 190 expected: 4 binomial deviations.
COVERED = 190 - 4 * math.sqrt(200 * 0.95 * 0.05)
RUN = CliRunner()


def draws(beta: float, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Of unit variance."""
    return torch.from_numpy(stats.gennorm(beta).rvs(shape, random_state=seed) / stats.gennorm(beta).std())


def info(tensor: torch.Tensor, name: str = "model.layers.3.mlp.up_proj.weight") -> TensorInfo:
    return TensorInfo(name, "up", tuple(tensor.shape), "F64", Path("x"), 0, 0)


def measured(tensor: torch.Tensor) -> dict:
    return weights.measure(tensor, info(tensor)).record()


def assert_covers(record: dict, name: str, truth: float, lost: float = 0.0) -> None:
    assert abs(record[name] - truth) < STANDARD_ERRORS * record[f"{name}_error"] + lost, name


@pytest.fixture(scope="module")
def iid() -> dict:
    return measured(0.02 * draws(BETA, SHAPE, 0))


def test_iid_weights_have_their_law(iid):
    truth = float(ggd.kl_to_gaussian(BETA))
    for name in ("beta", "beta_row", "beta_block"):
        assert_covers(iid, name, BETA)
    assert_covers(iid, "kurtosis", float(stats.gennorm(BETA).stats("k")) + 3)
    assert_covers(iid, "kl_ggd", truth)
    assert_covers(iid, "kl_binned", truth, LOST * truth)
    assert_covers(iid, "beyond_6_sigma", 2 * stats.gennorm(BETA).sf(6 * stats.gennorm(BETA).std()))
    assert iid["ks"] < 1.63 / math.sqrt(iid["weights"])  # 1 % of samples are further off
    assert iid["std"] == close(0.02, rel=STANDARD_ERRORS * math.sqrt((iid["kurtosis"] - 1) / 4 / iid["weights"]))
    assert abs(iid["mean"]) < STANDARD_ERRORS * 0.02 / math.sqrt(iid["weights"])
    assert (iid["rows"], iid["columns"], iid["layer"], iid["role"]) == (*SHAPE, 3, "up")


def test_iid_weights_have_no_spread_but_noise(iid):
    noise = (float(stats.gennorm(BETA).stats("k")) + 2) / (4 * 512 * math.log(2))
    for lines in ("row", "column"):
        assert_covers(iid, f"{lines}_spread", iid[f"{lines}_spread_noise"])
        assert iid[f"{lines}_spread_noise"] == close(noise, rel=0.05)


def test_the_largest_is_where_one_weight_is_expected(iid):
    n, law = iid["weights"], stats.gennorm(iid["beta"])
    assert 2 * n * law.sf(iid["largest_expected"] * law.std()) == close(1.0, rel=0.01)  # sigma: sample, not fit
    assert -math.log(1e-4) > 2 * n * law.sf(iid["largest"] * law.std()) > 1e-4  # exponential of mean 1


def test_the_reported_bonus_has_the_error_of_the_audit(iid):
    beta = iid["beta"]
    wrong = (1 / math.log(2) - 1) / beta
    assert iid["bonus_reported"] - wrong == close(iid["kl_ggd"], abs=1e-12)
    assert iid["kl_ggd"] == close(float(ggd.entropy(2.0) - ggd.entropy(beta)), abs=1e-12)


def test_rows_of_their_own_scale():
    scales = np.random.default_rng(1).lognormal(0, 0.4, SHAPE[0])
    tensor = draws(BETA, SHAPE, 1) * torch.from_numpy(scales)[:, None]
    record = measured(tensor)
    assert_covers(record, "beta_row", BETA)
    assert_covers(record, "beta_block", BETA)
    assert record["beta"] < BETA - 0.1
    within = float(stats.gennorm(BETA).stats("k")) + 3
    assert_covers(record, "kurtosis", within * np.mean(scales**4) / np.mean(scales**2) ** 2)
    spread = math.log2(np.mean(scales**2) / stats.gmean(scales**2)) / 2
    noise = record["row_spread_noise"]
    assert abs(record["row_spread"] - noise - spread) < STANDARD_ERRORS * record["row_spread_error"]
    assert noise == close((within - 1) / (4 * 512 * math.log(2)), rel=0.05)
    assert record["column_spread"] < 0.1 * record["row_spread"]
    assert record["ks"] > 1.63 / math.sqrt(record["weights"])


def test_outliers():
    share, place = 1e-3, 20.0
    tensor = draws(2.0, SHAPE, 2)
    rng = np.random.default_rng(3)
    chosen = torch.from_numpy(rng.random(SHAPE) < share)
    tensor[chosen] = torch.from_numpy(rng.choice([-place, place], int(chosen.sum())))
    record = measured(tensor)
    variance = 1 - share + share * place**2
    assert_covers(record, "beyond_6_sigma", share)
    assert_covers(record, "kurtosis", (3 * (1 - share) + share * place**4) / variance**2)
    assert record["beyond_6_sigma"] == int(chosen.sum()) / chosen.numel()
    assert record["largest"] == close(place / record["std"], rel=SUM)
    assert record["largest"] > 2 * record["largest_expected"]


def test_the_spread_covers_at_its_rate():
    tau, shape, covered = 0.5, (128, 256), 0
    truth = tau**2 / (4 * math.log(2))  # of lognormal variances
    for seed in range(200):
        rng = np.random.default_rng(seed)
        rows, _ = weights.spreads(torch.from_numpy(rng.normal(size=shape) * rng.lognormal(0, tau / 2, (shape[0], 1))))
        covered += abs(rows.bits - rows.noise - truth) < 1.96 * rows.standard_error
    assert covered >= COVERED


def test_spreads_are_those_of_the_whole_matrix(monkeypatch):
    monkeypatch.setattr(weights, "CHUNK", 100)
    tensor = draws(1.0, (33, 40), 4)
    tensor[5], tensor[:, 7] = 0, 0
    for found, axis in zip(weights.spreads(tensor), (1, 0), strict=True):
        second = np.mean(tensor.numpy() ** 2, axis=axis)
        live = second > 0
        second, fourth = second[live], np.mean(tensor.numpy() ** 4, axis=axis)[live]
        assert found.bits == close(math.log2(second.mean() / stats.gmean(second)) / 2, rel=SUM)
        # What the lines across differ by, those of zeros included, is in every line and no noise.
        across = np.mean(tensor.numpy() ** 2, axis=1 - axis)
        common = np.mean(across**2) / np.mean(across) ** 2
        expected = (np.mean(fourth / second**2) - common) / 4 / tensor.shape[axis] / math.log(2)
        assert found.noise == close(expected, rel=SUM)
        # The jackknife is another way to the error of lines drawn independently.
        without = [np.delete(second, i) for i in range(len(second))]
        again = np.array([math.log2(v.mean() / stats.gmean(v)) / 2 for v in without])
        assert found.standard_error == close(math.sqrt((len(again) - 1) * again.var()), rel=0.1)


def test_the_spread_of_one_column_has_no_error():
    tensor = torch.zeros(4, 3)
    tensor[:, 1] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert weights.spreads(tensor)[1][:2] == (0.0, None)


@pytest.mark.parametrize("law", [1.2, 2.0])
def test_distance_is_scipys_up_to_one_weight(law):
    tensor = draws(1.6, (4000,), 5)
    atoms = exact(tensor)
    fitted = weights.fitted_law(atoms, law)
    x = np.sort(tensor.numpy())
    slack = np.diff(fitted.cdf(x)).max() + 1 / len(x)
    assert abs(weights.kolmogorov_distance(atoms, fitted) - stats.kstest(x, fitted.cdf).statistic) < slack


def test_distance_between_atoms():
    atoms = Histogram(np.array([-1.0, 0.0, 2.0]), np.array([1, 2, 5]))
    expected = max(abs(1 / 8 - stats.norm.cdf(-0.5)), abs(3 / 8 - stats.norm.cdf(1)))
    assert weights.kolmogorov_distance(atoms, GGD(2.0)) == close(expected, rel=CLOSED_FORM)


def test_the_fitted_law_is_the_likeliest():
    atoms = exact(draws(1.6, (4000,), 6))
    found = fit.marginal(atoms)
    assert weights.fitted_law(atoms, found.beta).sigma == close(found.sigma, rel=STOPPED)
    # scipy's own likelihood is no better a percent to either side.
    best = [stats.gennorm(1.6, scale=weights.fitted_law(atoms, 1.6).alpha * c).logpdf(atoms.values).sum()
            for c in (0.99, 1.0, 1.01)]  # fmt: skip
    assert best[1] == max(best)


def test_the_matrix_is_left_as_it_was():
    tensor = draws(1.6, (16, 40), 8)
    before = tensor.clone()
    weights.measure(tensor, info(tensor))
    assert torch.equal(tensor, before)


def test_a_short_last_block_is_left_out():
    tensor = draws(1.6, (13, 40), 7)
    found = weights.measure(tensor, info(tensor))
    assert found.beta_block == close(fit.within_rows(tensor.reshape(-1)[:512].view(8, 64)).beta, rel=STOPPED)


def test_roles_are_means_over_weights(tmp_path):
    sizes = {"model.layers.0.mlp.up_proj.weight": (64, 32), "model.layers.1.mlp.up_proj.weight": (64, 96)}
    save_file({n: draws(1.5, s, i).float() for i, (n, s) in enumerate(sizes.items())}, tmp_path / "model.safetensors")
    tables = weights.run(tmp_path).tables
    (role,), (a, b) = (tables[name].to_dict(orient="records") for name in ("roles", "weights"))
    assert (role["role"], role["matrices"], role["weights"]) == ("up", 2, 64 * 128)
    for name in ("beta", "kurtosis", "kl_binned", "row_spread"):
        assert role[name] == close(0.25 * a[name] + 0.75 * b[name], rel=CLOSED_FORM)
        error = math.sqrt((0.25 * a[f"{name}_error"]) ** 2 + (0.75 * b[f"{name}_error"]) ** 2)
        assert role[f"{name}_error"] == close(error, rel=CLOSED_FORM)
    assert role["largest"] == max(a["largest"], b["largest"])


def test_the_embedded_model_from_the_command_line(tmp_path):
    found = RUN.invoke(app, ["run", "weights", "pocket-llama", "--out", str(tmp_path), "--json"])
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    folder = tmp_path / "pocket-llama" / "weights"
    matrices = document["tables"]["weights"]
    csv = pd.read_csv(folder / "weights.csv", float_precision="round_trip")
    assert json.loads((folder / "weights.json").read_text()) == document
    for frame in (csv, pd.read_parquet(folder / "weights.parquet")):
        assert list(frame["name"]) == [m["name"] for m in matrices]
        assert list(frame["beta"]) == [m["beta"] for m in matrices]
        assert list(frame["kl_binned"]) == [m["kl_binned"] for m in matrices]
    assert len(matrices) == 43
    assert all(m["kl_notebook"] > 0 for m in matrices)
    assert {r["role"] for r in document["tables"]["roles"]} == {"embedding", "q", "k", "v", "o", "gate", "up", "down"}
    for figure in ("depth", "comparison", "rows"):
        assert (folder / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (folder / f"{figure}.svg").read_bytes()
    assert "pocket-llama: weights" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_cannot_be_measured_is_named(tmp_path):
    up = "model.layers.0.mlp.up_proj.weight"
    constant = {"lm_head.weight": torch.ones(64, 64)}
    save_file({up: draws(2.0, (64, 64), 0).float(), **constant}, tmp_path / "model.safetensors")
    found = RUN.invoke(app, ["run", "weights", str(tmp_path), "--out", str(tmp_path / "out")])
    assert found.exit_code == 1
    assert "lm_head.weight is constant" in found.stderr
    assert "Weights by role" in found.stdout
    save_file(constant, tmp_path / "model.safetensors")
    found = RUN.invoke(app, ["run", "weights", str(tmp_path), "--out", str(tmp_path / "none")])
    assert found.exit_code == 2
    assert "nothing in" in found.stderr
    assert not (tmp_path / "none" / "report.html").exists()
