"""``quantgap run kurtosis``: scipy's moments, hooks of our own, clips by brute force, the notebook's rule."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize, stats
from typer.testing import CliRunner

from empirics.cli import app
from empirics.experiments import degradation
from empirics.experiments.degradation import Degradation, Subject, open_subject
from empirics.experiments.kurtosis import effective, matrix, notebook, report
from empirics.experiments.kurtosis import experiment as kurtosis
from empirics.experiments.kurtosis.effective import Activity, activity
from empirics.experiments.result import Experiment
from empirics.experiments.words import sample
from empirics.store import Store
from empirics.tensors import layer
from empirics.texts import Text
from tests.empirics import tiny_checkpoint
from tests.tolerances import STANDARD_ERRORS, close
from theory.correlation import power

RUN = CliRunner()
# Activations are float32 sums of some dozens of terms, in batches of another shape.
FLOAT32 = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_checkpoint.write(tmp_path_factory.mktemp("kurtosis") / "bloom", "bloom")


@pytest.fixture(scope="module")
def options(folder):
    return tiny_checkpoint.texts(folder.parent)


@pytest.fixture(scope="module")
def subject(folder, options) -> Subject:
    return open_subject(folder, texts=options)


@pytest.fixture(scope="module")
def seen(subject) -> Activity:
    return activity(subject, None, lambda *_: None)


@pytest.fixture(scope="module")
def experiment(folder, options) -> Experiment:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matrix, "BITS", (3,))  # a search for each: the others are in the command's test
        return kurtosis.run(folder, texts=options)


def heavy(shape: tuple[int, int], seed: int, rows: float = 0.5) -> torch.Tensor:
    """Student's t in rows of unequal scale, off 0 and skewed: what no formula may rely on the absence of."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(12, shape) * rng.lognormal(0, rows, (shape[0], 1)) + rng.exponential(0.3, shape)
    return torch.from_numpy(x)


def test_moments_are_scipys(monkeypatch):
    monkeypatch.setattr(matrix, "BITS", ())
    x = heavy((60, 90), 0)
    found = matrix.measured(x, "x")
    assert found["kurtosis"] == close(float(stats.kurtosis(x.numpy(), axis=None)), rel=1e-10)
    assert found["skewness"] == close(float(stats.skew(x.numpy(), axis=None)), rel=1e-10)
    assert found["deviation"] == close(float(x.std(correction=0)), rel=1e-10)
    assert notebook.excess_kurtosis(x) == close(found["kurtosis"], rel=1e-10)
    assert math.isnan(notebook.excess_kurtosis(torch.full((5, 5), 0.3)))
    with pytest.raises(ValueError, match="w is constant"):
        matrix.measured(torch.full((8, 8), 0.5), "w")


def test_the_error_of_a_kurtosis_covers(monkeypatch):
    """Rows of unequal scale, columns alike: the truth is that of the mixture."""
    monkeypatch.setattr(matrix, "BITS", ())
    found = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((150, 60)) * rng.choice([0.7, 1.3], (150, 1)) + 0.5
        found.append(matrix.measured(torch.from_numpy(x), "x"))
    truth = 3 * (0.7**4 + 1.3**4) / 2 / ((0.7**2 + 1.3**2) / 2) ** 2 - 3
    values, errors = (np.array([f[name] for f in found]) for name in ("kurtosis", "kurtosis_error"))
    # 150 samples know a deviation to 6 %.
    assert np.sqrt(np.mean(errors**2)) == close(float(values.std(ddof=1)), rel=0.25)
    covered = np.mean(np.abs(values - truth) < 1.96 * errors)
    assert abs(covered - 0.95) < 4 * math.sqrt(0.05 * 0.95 / 150)


def test_the_error_of_a_kurtosis_is_the_jackknifes(monkeypatch):
    """By row, by column, and by weight, which is in both: of a skewed matrix that is not centred."""
    monkeypatch.setattr(matrix, "BITS", ())
    rng = np.random.default_rng(5)
    x = (rng.random((60, 50)) < 0.1) * rng.lognormal(0, 0.1, (60, 1)) + rng.uniform(0, 0.1, (60, 50))

    def without(axis: int | None) -> float:
        n = x.size if axis is None else x.shape[axis]
        left = [stats.kurtosis(np.delete(x, i, axis).ravel()) for i in range(n)]
        return (n - 1) * float(np.var(left))

    expected = math.sqrt(without(0) + without(1) - without(None))
    # The jackknife is the influence function and a second-order part.
    assert matrix.measured(torch.from_numpy(x), "x")["kurtosis_error"] == close(expected, rel=0.05)


@pytest.mark.parametrize("bits", [2, 4])
def test_clips_by_brute_force(bits):
    x = heavy((40, 50), 1).float()
    row = next(c for c in matrix.measured(x, "x")["clips"] if c["bits"] == bits)
    values, deviation = x.double().numpy().ravel(), float(x.double().std(correction=0))

    def error(clip: float) -> float:
        step = 2 * clip / 2**bits
        levels = (np.clip(np.floor(values / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) + 0.5) * step
        return float(np.mean((values - levels) ** 2))

    grid = deviation * np.linspace(0.3, 12, 2000)
    starts = grid[np.argsort([error(c) for c in grid])[:20]]
    least = min(optimize.minimize_scalar(error, bounds=(c * 0.97, c * 1.03), method="bounded").fun for c in starts)
    # Of a few thousand atoms the error is not quite smooth; neither search is exact.
    assert error(row["best"] * deviation) == close(least, rel=1e-3)
    excess = float(stats.kurtosis(values))
    assert row["rule"] == close(2.5 + 0.3 * math.log(1 + max(0.0, excess)), rel=1e-9)
    assert row["largest"] * deviation == close(float(np.abs(values).max()), rel=1e-9)
    for rule in ("rule", "banner", "largest"):
        expected = math.log2(error(row[rule] * deviation) / error(row["best"] * deviation)) / 2
        assert row[f"{rule}_regret"] == close(expected, abs=1e-7)
        assert row[f"{rule}_regret"] > -1e-3


def test_the_clip_of_banner_balances(monkeypatch):
    """Their condition, on the sample itself: mean excess beyond the clip is clip / (6 4**bits)."""
    values = torch.from_numpy(np.random.default_rng(2).laplace(size=(100, 100)))
    values = torch.cat([values, -values])  # symmetric
    found = matrix.measured(values, "x")
    for row in found["clips"]:
        clip = row["banner"] * found["deviation"]
        beyond = float((values - clip).clamp(min=0).mean())
        # A step of one atom, on a coarsened histogram.
        assert beyond == close(clip / (6 * 4 ** row["bits"]), rel=2e-2)


def layers_of(values: list[float], errors: list[float]) -> pd.DataFrame:
    frame = pd.DataFrame({"layer": range(len(values)), "weights": 100, "kurtosis": values, "kurtosis_error": errors})
    return kurtosis.by_layer(frame, dict(enumerate(values)))


def test_outliers_by_both_rules():
    values = [0.5, 0.6, 0.4, 0.55, 5.0]
    found = layers_of(values, [0.01] * 5)
    assert found["outlier"].tolist() == [False] * 4 + [True]
    assert not found["notebook_outlier"].any()  # of five, none can be
    mad = np.median(np.abs(np.array(values) - 0.55))
    assert found["score"].iloc[4] == close((5.0 - 0.55) / math.hypot(1.4826 * mad, 0.01), rel=1e-9)
    assert not layers_of(values, [0.01] * 4 + [2.0])["outlier"].any()  # not known well enough
    many = [0.5, 0.6, 0.4, 0.55, 0.45, 0.5, 0.52, 0.48, 5.0]
    found = layers_of(many, [0.01] * 9)
    assert found["notebook_outlier"].tolist() == [False] * 8 + [True]
    assert found["notebook_threshold"].iloc[0] == close(np.mean(many) + 2 * np.std(many), rel=1e-12)


def test_a_layer_is_the_mean_over_its_weights(experiment, subject):
    matrices = experiment.tables["matrices"]
    assert len(matrices) == 24
    for row in experiment.tables["layers"].itertuples():
        part = matrices[matrices["layer"] == row.layer]
        assert row.kurtosis == close(np.average(part["kurtosis"], weights=part["weights"]), rel=1e-10)
        share = part["weights"] / part["weights"].sum()
        assert row.kurtosis_error == close(float(np.sqrt(np.sum((share * part["kurtosis_error"]) ** 2))), rel=1e-10)
        # The notebook's: every parameter of the block.
        sizes, values = [], []
        for name, parameter in subject.lm.network.named_parameters():
            if f"transformer.h.{row.layer}." in name:
                sizes.append(parameter.numel())
                values.append(stats.kurtosis(parameter.numpy().ravel().astype(np.float64)))
        assert len(sizes) == 12
        assert row.notebook_kurtosis == close(np.average(values, weights=sizes), rel=1e-9)


def caught(subject: Subject, text: int):
    """What the blocks put out and the linear layers are fed, by hooks of our own, of one text."""
    outputs, inputs, handles = {}, {}, []
    network = subject.lm.network
    for i, block in enumerate(network.transformer.h):
        handles.append(block.register_forward_hook(
            lambda _, __, y, i=i: outputs.update({i: (y[0] if isinstance(y, tuple) else y)[0].double()})
        ))  # fmt: skip
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Linear) and layer(name + ".weight") is not None:
            handles.append(module.register_forward_pre_hook(
                lambda _, x, name=name: inputs.update({name + ".weight": x[0].reshape(-1, x[0].shape[-1]).double()})
            ))  # fmt: skip
    with torch.no_grad():
        network(torch.from_numpy(subject.sequences[text].ids)[None])
    for handle in handles:
        handle.remove()
    return outputs, inputs


def test_effective_kurtosis_by_outputs_is_the_notebooks(subject, seen):
    known = {i: 1.0 + i**2 for i in range(6)}
    for text in (0, 11):
        outputs, _ = caught(subject, text)
        means = np.array([float(outputs[i].abs().mean()) for i in range(6)])
        expected = means / means.sum() @ np.array(list(known.values()))
        assert seen.by_outputs(known, np.array([text])) == close(float(expected), rel=FLOAT32)
    all_tokens = [torch.cat([caught(subject, text)[0][i] for text in (0, 7, 11)]).abs().mean() for i in range(6)]
    expected = np.average(list(known.values()), weights=all_tokens)
    assert seen.by_outputs(known, np.array([0, 7, 11])) == close(float(expected), rel=FLOAT32)


def test_effective_kurtosis_by_inputs_is_a_weighted_moment(subject, seen):
    texts = np.array([6, 7, 8])
    squares: dict[str, np.ndarray] = {}
    for text in texts:
        for name, x in caught(subject, int(text))[1].items():
            squares[name] = squares.get(name, 0) + x.square().sum(0).numpy()
    top = bottom = 0.0
    for name, weight in subject.lm.linear().items():
        w = weight.double().numpy().ravel()
        s = np.tile(squares[name], len(weight))
        mean = np.average(w, weights=s)
        second = np.average((w - mean) ** 2, weights=s)
        excess = np.average((w - mean) ** 4, weights=s) / second**2 - 3
        top, bottom = top + excess * s.sum() * second, bottom + s.sum() * second
    assert seen.by_inputs(texts) == close(top / bottom, rel=FLOAT32)
    with_each = [seen.by_inputs(np.array([t])) for t in texts]
    assert min(with_each) < top / bottom < max(with_each)


def test_the_jackknife(seen):
    texts = np.arange(6)
    found = seen.estimate(seen.by_inputs, texts)
    without = np.array([seen.by_inputs(np.array([t for t in texts if t != i])) for i in texts])
    assert found.standard_error == close(math.sqrt(5 * np.mean((without - without.mean()) ** 2)), rel=1e-10)
    assert (found.clusters, found.n) == (6, int(seen.tokens[:6].sum()))
    # Of a mean over tokens it is the error clustered by text, but for the size of a text left out.
    mean = seen.estimate(lambda t: float(seen.outputs[2][t].sum() / seen.tokens[t].sum()), texts)
    ratio = seen.outputs[2][:6] - mean.value * seen.tokens[:6]
    clustered = math.sqrt(6 / 5 * float(ratio @ ratio)) / float(seen.tokens[:6].sum())
    assert mean.standard_error == close(clustered, rel=0.2)
    assert math.isnan(seen.estimate(seen.by_inputs, np.array([3])).standard_error)


def test_tables_and_correlations(experiment, seen):
    languages, texts = experiment.tables["languages"], experiment.tables["texts"]
    index = ["over", "quantizer", "weighting", "outcome", "method"]
    found = experiment.tables["correlations"].set_index(index).sort_index()
    for quantizer in ("nf4", "int4"):
        for weighting in ("outputs", "inputs"):
            for outcome in ("loss_change", "kl_bits"):
                part = languages[languages["quantizer"] == quantizer]
                x, y = part[f"by_{weighting}"], part[outcome]
                key = quantizer, weighting, outcome
                assert found.loc[("languages", *key, "pearson"), "r"] == close(stats.pearsonr(x, y)[0], rel=1e-7)
                assert found.loc[("languages", *key, "spearman"), "r"] == close(stats.spearmanr(x, y)[0], abs=1e-9)
                each = texts[texts["quantizer"] == quantizer]
                a, b = each[f"by_{weighting}"], each[outcome]
                assert found.loc[("texts", *key, "pearson"), "r"] == close(np.corrcoef(a, b)[0, 1], rel=1e-7)
                a, b = (v - v.groupby(each["language"]).transform("mean") for v in (a, b))
                one = found.loc[("texts within languages", *key, "pearson")]
                assert one["r"] == close(np.corrcoef(a, b)[0, 1], rel=1e-7)
                assert one["n"] == 18
    one = found.loc[("languages", "nf4", "outputs", "loss_change", "pearson")]
    assert one["power"] == close(power(0.7, 3), rel=1e-9)  # 3 languages
    row = languages[(languages["language"] == "sw") & (languages["quantizer"] == "nf4")].iloc[0]
    assert row["by_inputs"] == close(seen.by_inputs(np.arange(12, 18)), rel=1e-9)
    assert row["perplexity_change"] == close(math.exp(row["loss_change"]) - 1, rel=1e-9)
    assert row["texts"] == 6


def test_the_ceiling_is_that_of_a_perfect_correlation():
    """True values on a line, seen with errors: the correlation is the ceiling on average."""
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(300):
        truth = rng.standard_normal(40)
        frame = pd.DataFrame({
            "quantizer": "nf4", "language": [f"l{i}" for i in range(40)],
            "by_outputs": truth + 0.5 * rng.standard_normal(40), "by_outputs_error": 0.5,
            "loss_change": truth + 0.8 * rng.standard_normal(40), "loss_change_error": 0.8,
        })  # fmt: skip
        r = np.corrcoef(frame["by_outputs"], frame["loss_change"])[0, 1]
        left = [kurtosis._reliability(frame, name) for name in ("by_outputs", "loss_change")]
        seen.append((r, math.sqrt(left[0] * left[1])))
    r, ceiling = np.array(seen).T
    truth = 1 / math.sqrt(1.25 * 1.64)
    assert abs(ceiling.mean() - truth) < STANDARD_ERRORS * ceiling.std() / math.sqrt(300) + 0.01
    assert abs(r.mean() - truth) < STANDARD_ERRORS * r.std() / math.sqrt(300) + 0.01
    frame["by_outputs_error"] = 5.0
    assert kurtosis._reliability(frame, "by_outputs") == 0


def test_verdicts():
    assert report.verdict(0.9, 0.3, 0.99, 0.02) == "supported"
    assert report.verdict(-0.9, -0.99, -0.3, 0.02) == "supported"
    assert report.verdict(0.9, 0.3, 0.99, 0.07) == "undecided"
    assert report.verdict(0.6, 0.2, 0.8, 0.01) == "undecided"
    assert report.verdict(0.1, -0.3, 0.5, 0.6) == "rejected"


@pytest.mark.parametrize("seed", range(4))
def test_the_notebooks_rule_in_pandas(seed):
    rng = np.random.default_rng(seed)
    languages = ["en", "fr", "zh", "ar", "he", "sw"]
    base = rng.lognormal(3, 0.4, 6)
    x = rng.normal(0.7, 0.1, 6)
    after = base * (1 + 0.05 + (-0.5, 0.02)[seed % 2] * (x - 0.7) + 0.01 * rng.standard_normal(6))
    frame = pd.DataFrame({"lang": languages, "k_eff": x, "ppl_fp16": base, "ppl_int4": after})
    layers = dict(enumerate(rng.lognormal(0, 1, 12)))
    found = notebook.verdict(frame, layers, "m")
    change = (frame["ppl_int4"] - frame["ppl_fp16"]) / frame["ppl_fp16"]
    r, p = stats.pearsonr(x, change)
    rank, p_rank = stats.spearmanr(x, change)
    h2 = found["hypothesis"]["H2"]
    assert (h2["r_pearson"], h2["p_pearson"]) == (round(r, 4), round(p, 4))
    assert (h2["r_spearman"], h2["p_spearman"]) == (round(rank, 4), round(p_rank, 4))
    assert h2["supported"] == (abs(r) > 0.7 and p < 0.05)
    values = np.array(list(layers.values()))
    expected = [i for i, v in layers.items() if v > values.mean() + 2 * values.std()]
    assert found["layer_statistics"]["outlier_layers"] == expected
    assert found["layer_statistics"]["std_kurtosis"] == round(values.std(), 4)
    assert [row["degradation"] for row in found["per_language"]] == close(change.tolist(), rel=1e-12)
    assert [row["resource"] for row in found["per_language"]] == ["high"] * 3 + ["medium", "low", "low"]
    nothing = notebook.verdict(frame.assign(k_eff=math.nan), {0: math.nan, 1: 2.0}, "m")
    assert nothing["hypothesis"]["H2"]["supported"] is None


def test_the_notebook_has_one_text_of_each_language(experiment, subject, seen):
    rows = pd.DataFrame(experiment.summary["per_language"]).set_index("lang")
    plain = notebook.layer_kurtosis(subject.lm)
    for language, text in (("en", 0), ("fr", 6), ("sw", 12)):
        assert rows["k_eff"][language] == close(seen.by_outputs(plain, np.array([text])), rel=1e-9)
        ids = torch.from_numpy(subject.sequences[text].ids)[None]
        with torch.no_grad():
            loss = float(subject.lm.network(ids, labels=ids).loss)
        assert rows["ppl_fp16"][language] == close(math.exp(loss), rel=1e-4)
    repeated = experiment.tables["notebook"]
    assert list(repeated["passage"]) == list(range(6))
    texts = experiment.tables["texts"]
    change = np.expm1(texts[texts["quantizer"] == "nf4"]["loss_change"].to_numpy()[[2, 8, 14]])
    met = [seen.by_outputs(plain, np.array([i])) for i in (2, 8, 14)]
    assert repeated["r_pearson"][2] == close(float(np.corrcoef(met, change)[0, 1]), abs=6e-5)
    first = experiment.summary["hypothesis"]["H2"]
    assert repeated.iloc[0][list(first)[1:]].to_dict() == {name: first[name] for name in list(first)[1:]}
    assert experiment.summary["corrected"]["notebook_supported_on"] == int(repeated["supported"].sum())


def test_what_is_said(experiment):
    said = " ".join(experiment.answer)
    assert experiment.answer[0].startswith("H2, that effective kurtosis and degradation correlate with |r| > 0.7")
    assert "If the true |r| were 0.7 the test would see it with probability" in said
    assert "3 languages" in experiment.answer[0]
    assert "The notebook’s own rule" in said
    assert "a small sample" in experiment.answer[-1]


def test_a_language_that_the_model_does_not_know(subject):
    texts = [Text("en", "a", "x"), Text("sw", "b", "y")]
    sizes = {"predictions": np.array([10, 10]), "tokens": np.array([10, 10])}
    one = Degradation("x", np.array(["en", "sw"]), sizes, {"loss": np.array([30.0, 90.0])}, {}, {})
    said = sample(Subject(subject.lm, texts, []), one)
    assert "In 1 language the model predicts worse than chance (sw 9.0 nats a token; chance 7.6)" in said


def test_the_same_numbers_twice_and_from_the_store(folder, options, experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(matrix, "BITS", (3,))
    first = json.dumps(experiment.json(), sort_keys=True)
    with Store(tmp_path / "store.sqlite") as store:
        assert json.dumps(kurtosis.run(folder, texts=options, store=store).json(), sort_keys=True) == first
        for module, name in ((degradation, "compare"), (effective, "outputs"), (kurtosis, "measured")):
            monkeypatch.setattr(module, name, None)
        assert json.dumps(kurtosis.run(folder, texts=options, store=store).json(), sort_keys=True) == first


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(matrix, "BITS", (2,))
    folder = tiny_checkpoint.write(tmp_path / "llama", "llama")
    given = [word for option in tiny_checkpoint.texts(tmp_path) for word in ("--text", option)]
    found = RUN.invoke(app, ["run", "kurtosis", str(folder), *given, "--out", str(tmp_path / "out"), "--json"])
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    place = tmp_path / "out" / "llama" / "kurtosis"
    assert json.loads((place / "kurtosis.json").read_text()) == document
    assert {"experiment", "model", "hypothesis", "layer_statistics", "per_language"} <= document["summary"].keys()
    assert len(document["tables"]["correlations"]) == 32
    for figure in ("profile", "scatter", "clipping"):
        assert (place / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    for name, rows in document["tables"].items():
        assert len(pd.read_csv(place / f"{name}.csv")) == len(pd.read_parquet(place / f"{name}.parquet")) == len(rows)


def test_one_language(tmp_path, monkeypatch):
    """What cannot be tested is said; and GPT-2 stores its matrices the other way round."""
    monkeypatch.setattr(matrix, "BITS", (2, 8))
    folder = tiny_checkpoint.write(tmp_path / "gpt2", "gpt2")
    document = kurtosis.run(folder, texts=tiny_checkpoint.texts(tmp_path, ("sw",))).json()
    assert document["tables"]["correlations"] == []
    assert "H2 cannot be tested over 1 language" in document["answer"][0]
    assert document["skipped"] == [["H2", "a correlation takes 3 languages, and there is 1 language"]]
    assert len(document["tables"]["clips"]) == 2 * 8


def test_nothing_has_a_kurtosis(subject):
    constant = torch.full((4, 4), 0.5)
    with pytest.raises(ValueError, match="constant"):
        matrix.measured(constant, "x")
    assert notebook.h2(pd.DataFrame({"k_eff": [1.0, 2.0], "degradation": [0.1, 0.2]}))["supported"] is None
    assert subject.languages == ["en", "fr", "sw"]
