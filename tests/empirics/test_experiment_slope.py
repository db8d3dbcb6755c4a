"""``quantgap run slope``: lines by scipy, tests by simulation, the notebook's rule in pandas, a tiny model."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

from empirics.cli import app
from empirics.experiments import degradation
from empirics.experiments.degradation import Degradation, WeightError
from empirics.experiments.result import Experiment
from empirics.experiments.slope import experiment as slope
from empirics.experiments.slope import fits as slope_fits
from empirics.experiments.slope import notebook
from empirics.store import Store
from tests.empirics import tiny_checkpoint
from tests.tolerances import STANDARD_ERRORS, SUM, close
from theory import slopes
from theory.codebooks import integer
from theory.sources import GGD

BITS = {f"int{bits}": float(bits) for bits in range(8, 1, -1)}
RUN = CliRunner()


def made(name: str, change, kl, languages, mse: float = 1.0) -> Degradation:
    """Texts with these means of the loss change and the divergence, each of its own length."""
    sizes = 10 + np.arange(len(change)) % 7
    zero = np.zeros(len(change))
    totals = {"loss": 3 * sizes, "loss_quantized": (3 + change) * sizes, "loss_change": change * sizes,
              "loss_change_square": zero, "kl_bits": kl * sizes, "logits_mse": 2 * kl * sizes,
              "agreement": zero}  # fmt: skip
    counts = {"predictions": sizes, "tokens": sizes}
    return Degradation(name, np.array(languages), counts, totals, {"w": WeightError(100, 100 * mse, 1e4)}, {})


def synthetic(slope: float = -1.4, noise: float = 0.05, texts: int = 40, seed: int = 0, tags=None):
    """Degradations that fall with that slope: each text has a factor of its own at each width."""
    rng = np.random.default_rng(seed)
    tags = np.array(["en", "sw"] * (texts // 2)) if tags is None else tags
    steep = slope if np.ndim(slope) == 0 else np.where(tags == "en", *slope)
    level = rng.lognormal(0, 0.2, len(tags))
    found = {}
    for name, bits in BITS.items():
        values = level * np.exp(steep * bits) * (1 + noise * rng.standard_normal(len(tags)))
        found[name] = made(name, values, values, tags, math.exp(-1.5 * bits))
    return found


def test_a_line_is_scipys():
    found = synthetic()
    for quantity, language in (("loss_change", None), ("kl_bits", "sw"), ("weight_mse", None)):
        points = slope_fits.logarithms(found, BITS, quantity, language)
        row = slope_fits.fitted(points, list(points.bits))
        x = np.array(list(BITS.values()))
        y = [math.log(d.weight_mse if quantity == "weight_mse" else d.mean(quantity, language).value)
             for d in found.values()]  # fmt: skip
        expected = stats.linregress(x, y)
        assert (row["slope"], row["slope_error"]) == close((expected.slope, expected.stderr), rel=1e-9, abs=1e-12)
        assert row["slope"] == close(np.polyfit(x, y, 1)[0], rel=1e-9)
        assert row["r_squared"] == close(expected.rvalue**2, rel=1e-9)
        half = stats.t.ppf(0.975, 5) * expected.stderr
        assert (row["low"], row["high"]) == close((expected.slope - half, expected.slope + half), abs=1e-9)
        assert (row["n"], row["left_out"]) == (7, 0)


def test_the_error_over_texts_is_the_bootstraps():
    found = synthetic(noise=0.3)
    points = slope_fits.logarithms(found, BITS, "kl_bits")
    row = slope_fits.fitted(points, list(points.bits))
    rng = np.random.default_rng(1)
    totals = np.array([d.totals["kl_bits"] for d in found.values()])
    drawn = rng.multinomial(40, np.full(40, 1 / 40), size=2000)
    means = drawn @ totals.T / (drawn @ found["int2"].sizes["tokens"])[:, None]
    x = np.array(list(BITS.values())) - 5
    again = np.log(means) @ x / (x @ x)
    # 2000 draws know a deviation to 1.6 %, and the delta method is right to the square of the relative errors, 5 %.
    assert row["text_error"] == close(float(again.std(ddof=1)), rel=0.1)


def test_the_weighted_fit_is_generalized_least_squares():
    found = synthetic(noise=0.3, texts=80)
    points = slope_fits.logarithms(found, BITS, "kl_bits")
    row = slope_fits.fitted(points, list(points.bits))
    sizes = found["int2"].sizes["tokens"]
    moves = []
    for d in found.values():
        mean = d.totals["kl_bits"].sum() / sizes.sum()
        moves.append((d.totals["kl_bits"] - mean * sizes) / sizes.sum() / mean)
    inverse = np.linalg.inv(80 / 79 * np.array(moves) @ np.array(moves).T)
    design = np.stack([np.ones(7), points.bits], axis=1)
    covariance = np.linalg.inv(design.T @ inverse @ design)
    beta = covariance @ design.T @ inverse @ points.y
    rest = points.y - design @ beta
    assert row["weighted_slope"] == close(beta[1], rel=1e-8)
    assert row["weighted_slope_error"] == close(math.sqrt(covariance[1, 1]), rel=1e-8)
    assert row["chi_squared"] == close(float(rest @ inverse @ rest), rel=1e-8)
    assert row["chi_squared_p"] == close(float(stats.chi2.sf(rest @ inverse @ rest, 5)), rel=1e-6)
    few = slope_fits.logarithms(synthetic(texts=20), BITS, "kl_bits")
    assert math.isnan(slope_fits.fitted(few, list(few.bits))["weighted_slope"])


def test_a_line_ends_before_the_first_width_without_a_logarithm():
    found = synthetic()
    tags = found["int5"].languages
    alternating = np.where(np.arange(40) % 2, 1.0, -1.0)  # both languages have both signs
    signs = np.where(np.arange(40) // 2 % 2, 1.0, -1.0)
    found["int5"] = made("int5", 1e-3 * signs + 1e-6, found["int5"].by_text("kl_bits"), tags)
    found["int6"] = made("int6", -1e-3 * np.ones(40) + 1e-4 * alternating, found["int6"].by_text("kl_bits"), tags)
    points = slope_fits.logarithms(found, BITS, "loss_change")
    assert points.names == ["int4", "int3", "int2"]
    assert points.left_out == ["int8", "int7", "int6", "int5"]
    assert found["int7"].mean("loss_change").interval()[0] > 0  # and is left out all the same
    assert len(slope_fits.logarithms(found, BITS, "kl_bits").names) == 7
    row = slope_fits.fitted(points, list(points.bits))
    y = [math.log(found[name].mean("loss_change").value) for name in points.names]
    assert row["slope"] == close(np.polyfit([4, 3, 2], y, 1)[0], rel=1e-9)
    assert (row["n"], row["left_out"]) == (3, 4)
    found["int2"] = made("int2", -np.ones(40) + 0.1 * signs, np.ones(40), tags)
    none = slope_fits.logarithms(found, BITS, "loss_change")
    assert none.names == []
    assert math.isnan(slope_fits.fitted(none, [])["slope"])


def test_two_points_have_a_slope_and_no_error():
    found = {name: d for name, d in synthetic().items() if name in ("int2", "int3")}
    points = slope_fits.logarithms(found, {"int3": 3.0, "int2": 2.0}, "kl_bits")
    row = slope_fits.fitted(points, list(points.bits))
    assert row["slope"] == close(points.y[0] - points.y[1], rel=SUM)
    assert math.isnan(row["slope_error"])
    assert row["text_error"] > 0


def test_what_a_slope_is_tested_against():
    found = synthetic(slope=-1.5, noise=0.02)
    points = slope_fits.logarithms(found, BITS, "kl_bits")
    curve = np.exp(-1.5 * points.bits + 0.3 * np.cos(points.bits))
    own = [d.weight_mse for d in found.values()]
    rows = {row["hypothesis"]: row for row in slope_fits.hypotheses(points, list(curve), own)}
    assert list(rows) == ["H4 as written", "Shannon", "absmax, fitted laws", "as the weight MSE"]
    values = {"H4 as written": -math.log(2) / 2 * points.bits, "Shannon": -2 * math.log(2) * points.bits,
              "absmax, fitted laws": np.log(curve), "as the weight MSE": -1.5 * points.bits}  # fmt: skip
    for name, taken in values.items():
        fit, row = stats.linregress(points.bits, points.y - taken), rows[name]
        assert (row["difference"], row["difference_error"]) == close((fit.slope, fit.stderr), rel=1e-7)
        assert row["p"] == close(fit.pvalue, rel=1e-6)
        assert row["expected"] == close(np.polyfit(points.bits, taken, 1)[0], rel=1e-9)
        tails = [stats.t.sf((0.1 * 2 * math.log(2) + s * fit.slope) / fit.stderr, 5) for s in (-1, 1)]
        assert row["p_equivalent"] == close(max(tails), rel=1e-6)
        rival = -2 * math.log(2) if name == "H4 as written" else -math.log(2) / 2
        line = slope_fits.line(points.bits, points.y - taken)
        assert row["rival"] == close(rival, rel=1e-12)
        assert row["power"] == close(slope_fits.power(line, rival - row["expected"]), rel=1e-9)
    assert rows["H4 as written"]["verdict"] == "rejected"
    assert rows["as the weight MSE"]["verdict"].startswith("supported within 10 %")
    assert len(list(slope_fits.hypotheses(points, None, None))) == 2


def test_the_power_is_the_share_of_rejections():
    rng = np.random.default_rng(0)
    x = np.array([2.0, 3.0, 4.0, 5.0])
    fit = slope_fits.line(x, [1.0, -0.3, 0.2, -0.6])
    truth = -1.2
    sigma = fit.standard_error * math.sqrt(float(np.sum((x - x.mean()) ** 2)))
    drawn = truth * x + sigma * rng.standard_normal((4000, 4))
    share = np.mean([slope_fits.line(x, y).test() < 0.05 for y in drawn])
    power = slope_fits.power(fit, truth)
    assert 0.2 < power < 0.9
    assert abs(share - power) < STANDARD_ERRORS * math.sqrt(power * (1 - power) / 4000)
    assert slope_fits.power(fit, 0.0) == close(0.05, rel=1e-9)
    assert slope_fits.power(fit, 50 * fit.standard_error) == close(1.0, rel=1e-6)
    assert math.isnan(slope_fits.power(slope_fits.line([2, 3], [0.0, 1.0]), 1.0))


def differences(steep, seed: int, noise: float = 0.1) -> dict[str, float]:
    found = synthetic(steep, noise, seed=seed)
    groups = {language: slope_fits.logarithms(found, BITS, "kl_bits", language) for language in ("en", "sw")}
    return {row["test"]: row["p"] for row in slope_fits.compared(groups)}


def test_languages_of_one_slope_and_of_two():
    same = pd.DataFrame([differences(-1.4, seed) for seed in range(200)])
    for test in same:
        # 5 %, by 4 binomial deviations; Welch's errors are of 20 texts.
        assert abs((same[test] < 0.05).mean() - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 200), test
    apart = pd.DataFrame([differences((-1.4, -1.55), seed) for seed in range(20)])
    assert (apart < 0.05).all().all()


def test_the_degrees_of_errors_over_texts_are_those_of_the_texts():
    found = synthetic(noise=0.3, texts=24)
    groups = {language: slope_fits.logarithms(found, BITS, "kl_bits", language) for language in ("en", "sw")}
    fits = [slope_fits.fitted(points, list(points.bits)) for points in groups.values()]
    shared, own = slope_fits.compared(groups)
    weight = np.array([fit["text_error"] ** -2.0 for fit in fits])
    doubt = float(np.sum((1 - weight / weight.sum()) ** 2 / 11))  # Welch's, of 12 texts each
    assert (own["degrees"], own["degrees_below"]) == close((1, 1 / doubt), rel=1e-9)
    difference = fits[0]["slope"] - fits[1]["slope"]
    assert own["f"] == close(difference**2 / float(np.sum(1 / weight)), rel=1e-9)
    assert own["p"] == close(float(stats.f.sf(own["f"], 1, 1 / doubt)), rel=1e-9)
    assert (shared["degrees"], shared["degrees_below"]) == (1, 5)


def test_the_power_of_comparing_languages():
    """Of slopes a tenth of Shannon's apart in standard deviation, as seldom seen as is said."""
    noise, apart = 0.4, slope_fits.MARGIN
    steep = (-1.4 - apart / math.sqrt(2), -1.4 + apart / math.sqrt(2))  # of that standard deviation
    rows = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        groups = {}
        for language, s in zip(("en", "sw"), steep, strict=True):
            moves = rng.normal(0, noise / math.sqrt(40), (7, 40))
            y = s * np.array(list(BITS.values())) + moves.sum(1)
            groups[language] = slope_fits.Points(list(BITS), np.array(list(BITS.values())), y, moves, [], 40)
        rows += list(slope_fits.compared(groups))
    frame = pd.DataFrame(rows)
    for _, part in frame.groupby("test"):
        # The power is computed with each sample's own scatter: 300 of them average it.
        share, said = (part["p"] < 0.05).mean(), part["power"].mean()
        assert 0.1 < said < 0.9
        assert abs(share - said) < 4 * math.sqrt(0.25 / 300) + 0.05


def perplexities(seed: int = 0, fall: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for lang in ("en", "he", "sw"):
        for sample in range(3):
            base = math.exp(rng.normal(3, 0.5))
            change = {"fp16": 0, "int8": 1e-3 * fall, "int4_nf4": 0.03, "int4_fp4": 0.05}
            for precision, mean in change.items():
                bits = {"fp16": 16, "int8": 8}.get(precision, 4)
                ppl = base * (1 + mean * rng.normal(1, 0.8))
                rows.append({"precision": precision, "bits": bits, "lang": lang, "sample": sample, "ppl": ppl})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("seed", "fall"), [(0, 1.0), (1, 0.0), (2, 12.0)])
def test_the_notebooks_rule_in_pandas(seed, fall):
    frame = perplexities(seed, fall)
    found = notebook.verdict(frame, "m")
    wide = frame.pivot_table(index=["lang", "sample"], columns="precision", values="ppl")
    relative = wide.div(wide["fp16"], axis=0).sub(1).clip(lower=0)
    means = relative.mean().round(4)
    x, y = np.array([8, 4, 4]), np.log(means[["int8", "int4_nf4", "int4_fp4"]] + 1e-6)
    fit = stats.linregress(x, y)
    theirs = found["hypothesis"]["H4_rate_distortion"]
    assert theirs["empirical_slope"] == close(fit.slope, abs=6e-5)  # four decimals
    assert theirs["r_squared"] == close(fit.rvalue**2, abs=6e-5)
    target = -math.log(2) / 2
    inside = fit.slope - 1.96 * fit.stderr <= target <= fit.slope + 1.96 * fit.stderr
    partial = fit.slope < 0 and abs(fit.slope / target - 1) < 0.5
    assert theirs["result"] == ("SUPPORTED" if inside else "PARTIALLY_SUPPORTED" if partial else "NOT_SUPPORTED")
    assert found["n_languages"] == 3
    assert found["bit_widths"] == ["fp16", "int8", "int4_nf4", "int4_fp4"]
    rows = {row["precision"]: row for row in found["per_precision"]}
    for name in wide:
        assert rows[name]["degradation_mean"] == close(float(means[name]), abs=1e-9)
        assert rows[name]["degradation_std"] == close(float(relative[name].std()), abs=6e-5)
        assert rows[name]["ppl_mean"] == close(float(wide[name].mean()), abs=6e-5)
    for lang, part in relative.groupby("lang"):
        y8, y4 = (math.log(part[names].to_numpy().mean() + 1e-6) for names in (["int8"], ["int4_nf4", "int4_fp4"]))
        assert found["language_slopes"][lang]["slope"] == close((y8 - y4) / 4, abs=6e-5)
        assert found["language_slopes"][lang]["ratio_to_theory"] == close((y8 - y4) / 4 / target, abs=2e-4)


def test_the_notebook_takes_one_degree_of_freedom_for_many():
    """2.7 standard errors away is away for 1.96, and within Student's 12.7."""
    changes = {"fp16": (16, 0.0), "int8": (8, 0.003), "int4_nf4": (4, 0.03), "int4_fp4": (4, 0.05)}
    frame = pd.DataFrame([
        {"precision": name, "bits": bits, "lang": "en", "sample": 0, "ppl": 20 * (1 + change)}
        for name, (bits, change) in changes.items()
    ])  # fmt: skip
    assert notebook.verdict(frame, "m")["hypothesis"]["H4_rate_distortion"]["result"] == "NOT_SUPPORTED"


def test_the_three_results_of_the_notebook():
    def result(slope, half):
        return notebook._result(slope, half)

    assert result(-0.6, 0.3) == "SUPPORTED"
    assert result(-0.5, 0.1) == "PARTIALLY_SUPPORTED"
    assert result(-0.6, 0.1) == "NOT_SUPPORTED"
    assert result(0.1, 0.01) == "NOT_SUPPORTED"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slope") / "bloom"
    return tiny_checkpoint.write(folder, "bloom")


@pytest.fixture(scope="module")
def options(folder):
    return tiny_checkpoint.texts(folder.parent)


@pytest.fixture(scope="module")
def experiment(folder, options) -> Experiment:
    return slope.run(folder, texts=options)


def test_the_tables_hang_together(experiment):
    whole = experiment.tables["degradation"].set_index(["configuration", "language"])
    assert list(whole.loc["nf4"].index) == ["all", "en", "fr", "sw"]
    texts = experiment.tables["texts"]
    for name in ("nf4", "int3", "int8 rows"):
        part = texts[(texts["configuration"] == name) & (texts["language"] == "sw")]
        mean = np.average(part["loss_change"], weights=part["predictions"])
        assert whole.loc[(name, "sw"), "loss_change"] == close(mean, rel=1e-9)
        assert whole.loc[(name, "sw"), "perplexity_ratio"] == close(math.exp(mean), rel=1e-9)
        base = texts[(texts["configuration"] == "bf16") & (texts["language"] == "sw")]
        change = part["perplexity"].to_numpy() / base["perplexity"].to_numpy() - 1
        assert part["perplexity_change"].to_numpy() == close(change, abs=1e-9)
    assert (whole["texts"].loc["int2"] == [18, 6, 6, 6]).all()
    fits = experiment.tables["fits"]
    one = fits[(fits["quantity"] == "kl_bits") & (fits["language"] == "fr") & (fits["points"] == "integers")]
    y = np.log([whole.loc[(name, "fr"), "kl_bits"] for name in BITS])
    assert one["slope"].to_list() == close([np.polyfit(list(BITS.values()), y, 1)[0]] * 2, rel=1e-9)


def test_bits_are_those_of_the_layers(experiment):
    bits = experiment.tables["degradation"].drop_duplicates("configuration").set_index("configuration")
    shapes = 6 * [(96, 32), (32, 32), (128, 32), (32, 128)]
    weights = sum(a * b for a, b in shapes)
    assert bits["effective_bits"]["int8 rows"] == close(8 + 32 * sum(a for a, _ in shapes) / weights, rel=SUM)
    assert bits["effective_bits"]["nf4"] == 4.5
    assert bits["effective_bits"]["fp16"] == bits["bits"]["fp16"] == 16
    fits = experiment.tables["fits"].set_index(["quantity", "points", "rate", "language"])["slope"]
    x = [4.5, 4.5, bits["effective_bits"]["int8 rows"]]
    y = np.log([bits["weight_mse"][name] for name in ("nf4", "fp4", "int8 rows")])
    assert fits["weight_mse", "notebook’s", "effective", "all"] == close(np.polyfit(x, y, 1)[0], rel=1e-9)
    for quantity in ("kl_bits", "weight_mse"):  # a scale for every 64: the line moves and keeps its slope
        assert fits[quantity, "integers", "effective", "all"] == close(fits[quantity, "integers", "nominal", "all"])


def test_gaussian_weights_fall_as_theory_says(tmp_path):
    """A family of matrices whose law is known: the slope of the measured error is that of theory.slopes."""
    folder = tiny_checkpoint.write(tmp_path / "llama", "llama")
    subject = degradation.open_subject(folder, texts=tiny_checkpoint.texts(tmp_path, ("en",)))
    generator = torch.Generator().manual_seed(0)
    for parameter in subject.lm.linear().values():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    found, _ = degradation.measure(subject, [c.quantization for c in slope.CONFIGURATIONS if c.name in BITS])
    points = slope_fits.logarithms(found, BITS, "weight_mse")
    expected = slopes.absmax([integer(int(b)) for b in points.bits], 64, GGD(2.0))
    n = sum(m.weights for m in found["int2"].matrices.values())
    # The block's largest weight moves all widths alike; what is left is the noise of 22,000 squared errors at 2 bits.
    assert np.exp(points.y) / 0.01 == close(np.array(expected.mse), rel=STANDARD_ERRORS * 2 / math.sqrt(n) + 0.02)
    assert slope_fits.fitted(points, list(points.bits))["slope"] == close(expected.slope, abs=0.01)
    laws, failures = slope.exponents(subject, None, lambda *_: None)
    assert not failures
    table = pd.DataFrame(slope.matrix_errors(found, laws))
    for model in ("iid", "row"):
        for _, part in table.groupby("configuration"):
            means = [np.average(part[column], weights=part["weights"]) for column in (f"predicted_{model}", "mse")]
            assert means[0] == close(means[1], rel=0.03)
    tests = [row for row in slope.all_tests(found, table) if row["quantity"] == "weight_mse"]
    assert len(tests) == 6  # through all widths, and from 3 bits
    for row in tests:
        if row["hypothesis"] == "absmax, fitted laws":
            assert row["verdict"].startswith("supported within 10 %")
    assert tests[2]["expected"] == close(expected.slope, abs=0.01)


def test_what_is_said(experiment):
    h4 = experiment.summary["hypothesis"]["H4_rate_distortion"]
    assert experiment.summary["experiment"] == "EXP-004: Rate-Distortion Curve Validation"
    assert set(experiment.summary) == {"experiment", "model", "n_languages", "bit_widths", "hypothesis",
                                       "language_slopes", "per_precision", "corrected"}  # fmt: skip
    assert h4["result"] in " ".join(experiment.answer)
    assert "18 texts in 3 languages, at least 6 in each: a small sample" in experiment.answer[-1]
    tests = experiment.tables["tests"]
    shannon = tests[(tests["quantity"] == "kl_bits") & (tests["hypothesis"] == "Shannon")].iloc[0]
    assert f"is {shannon['verdict']}" in experiment.answer[1]


def test_the_same_numbers_twice_and_from_the_store(folder, options, experiment, tmp_path, monkeypatch):
    first = json.dumps(experiment.json(), sort_keys=True)
    with Store(tmp_path / "store.sqlite") as store:
        assert json.dumps(slope.run(folder, texts=options, store=store).json(), sort_keys=True) == first
        monkeypatch.setattr(degradation, "compare", None)
        monkeypatch.setattr(slope.fit, "marginal", None)
        assert json.dumps(slope.run(folder, texts=options, store=store).json(), sort_keys=True) == first


def test_the_command(tmp_path):
    folder = tiny_checkpoint.write(tmp_path / "gpt2", "gpt2")
    (option,) = tiny_checkpoint.texts(tmp_path, ("sw",))
    found = RUN.invoke(app, ["run", "slope", str(folder), "--text", option, "--out", str(tmp_path / "out"), "--json"])
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    place = tmp_path / "out" / "gpt2" / "slope"
    assert json.loads((place / "slope.json").read_text()) == document
    assert document["tables"]["comparisons"] == []  # one language
    assert {row["language"] for row in document["tables"]["fits"]} == {"all", "sw"}
    assert (place / "slope.png").read_bytes().startswith(b"\x89PNG")
    assert not (place / "forest.png").exists()
    for name in ("degradation", "texts", "fits", "tests", "matrices"):
        assert len(pd.read_csv(place / f"{name}.csv")) == len(pd.read_parquet(place / f"{name}.parquet")) > 0


def test_a_single_text(tmp_path):
    folder = tiny_checkpoint.write(tmp_path / "gpt2", "gpt2")
    (tmp_path / "one.txt").write_text("The water is clean.", encoding="utf-8")
    found = slope.run(folder, texts=[f"en={tmp_path / 'one.txt'}"])
    assert found.tables["degradation"]["loss_change_error"].isna().all()
    fits = found.tables["fits"].set_index(["quantity", "points", "language", "rate"])
    assert np.isfinite(fits.loc[("kl_bits", "integers", "all", "nominal"), "slope"])
    assert fits.loc[("loss_change", "integers", "all", "nominal"), "n"] == 0
    assert found.json()["tables"]
