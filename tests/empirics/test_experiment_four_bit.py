"""``quantgap run four-bit`` on a tiny Llama and what GPTQ and AWQ made of it, against other roads to each number."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from bitsandbytes.functional import quantize_4bit
from scipy import stats
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from empirics import functional, language_model, quantizers
from empirics.checkpoints import open_quantized
from empirics.cli import app
from empirics.experiments import degradation, sensitivity
from empirics.experiments.four_bit import experiment as four_bit
from empirics.experiments.four_bit import geometry as four_bit_geometry
from empirics.experiments.four_bit import notebook
from empirics.experiments.four_bit import weights as four_bit_weights
from empirics.experiments.four_bit.methods import methods
from empirics.experiments.four_bit.weights import Law, WeightMSE, certified_rate, row_sums
from empirics.experiments.result import Experiment
from empirics.inference import clustered_mean, clustered_ratio
from empirics.store import Store
from tests.empirics.checkpoints import base
from tests.tolerances import CLOSED_FORM, SUM, close
from theory import rate_distortion
from theory.sources import GGD

RUN = CliRunner()
CHECKPOINTS = Path(__file__).parent / "checkpoints"
GPTQ, AWQ = CHECKPOINTS / "gptq-4-bits-ordered", CHECKPOINTS / "awq"
DOWN = "model.layers.0.mlp.down_proj.weight"
# Logits of order 10 through float32 sums of 64 to 128 terms, in batches of another shape: measured 2e-6 of an MSE.
FLOAT32 = 2e-4
MATRICES = list(base.SHAPES)


def tiny(folder: Path) -> Path:
    """The base of the checkpoints, and a tokenizer of its 32 words."""
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(32)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    base.save(folder)
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "w0")
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    return folder


def paragraphs(count: int) -> str:
    """Each of two sentences, the first of 4 to 11 words."""
    rng = np.random.RandomState(0)
    lines = [[f"w{i}" for i in rng.randint(1, 32, n)] for n in rng.randint(4, 12, count)]
    return "\n\n".join(f"{' '.join(line)}. {' '.join(line[::-1])} w3 w7" for line in lines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny(tmp_path_factory.mktemp("four") / "tiny")
    (made.parent / "texts.txt").write_text(paragraphs(26))
    (made.parent / "one.txt").write_text(paragraphs(1))
    return made


@pytest.fixture(scope="module")
def texts(folder: Path) -> list[str]:
    return [f"xx={folder.parent / 'texts.txt'}"]


@pytest.fixture(scope="module")
def kept(folder: Path) -> Path:
    return folder.parent / "measurements.sqlite"


@pytest.fixture(scope="module")
def found(folder, texts, kept) -> Experiment:
    with Store(kept) as store:
        return four_bit.run(folder, texts=texts, quantized=[GPTQ, AWQ], store=store)


@pytest.fixture(scope="module")
def subject(folder, texts) -> degradation.Subject:
    return degradation.open_subject(folder, texts=texts)


@pytest.fixture(scope="module")
def networks(folder, subject) -> dict[str, torch.nn.Module]:
    """The model, and it with int4 rows and with what GPTQ made: plain transformers."""
    made = {}
    for name in ("model", "int4 rows", GPTQ.name):
        network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for matrix in MATRICES if name != "model" else []:
            weight = network.get_parameter(matrix)
            weight.data = int4_rows(weight.data) if name == "int4 rows" else open_quantized(GPTQ).dense(matrix)
        made[name] = network
    return made


def int4_rows(weight: torch.Tensor) -> torch.Tensor:
    scale = weight.abs().amax(1, keepdim=True) / 7
    return (weight / scale).round() * scale


def row(found: Experiment, method: str, table: str = "methods") -> pd.Series:
    frame = found.tables[table]
    return frame[frame["method"] == method].iloc[0]


def errors(networks: dict[str, torch.nn.Module], name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each matrix the rows' squared errors and squared weights, in numpy."""
    made = []
    for matrix in MATRICES:
        old, new = (networks[n].get_parameter(matrix).detach().double().numpy() for n in ("model", name))
        made.append(((new - old) ** 2, old**2))
    return made


def test_weight_errors_are_those_of_numpy(found, networks):
    for name in ("int4 rows", GPTQ.name):
        parts = errors(networks, name)
        squares = np.concatenate([s.ravel() for s, _ in parts])
        rows = np.repeat(np.arange(sum(len(s) for s, _ in parts)), np.repeat([s.shape[1] for s, _ in parts],
                                                                             [len(s) for s, _ in parts]))  # fmt: skip
        energy = np.concatenate([e.ravel() for _, e in parts])
        ours, mean = row(found, name), clustered_mean(squares, rows)
        ratio = clustered_ratio(squares, energy, rows)
        # int4 is rounded in float32 on both roads, and its scale by a division here.
        assert ours["weight_mse"] == close(mean.value, rel=1e-6)
        assert ours["weight_mse_error"] == close(mean.standard_error, rel=1e-6)
        assert ours["relative_weight_mse"] == close(ratio.value, rel=1e-6)
        assert ours["relative_weight_mse_error"] == close(ratio.standard_error, rel=1e-6)
        assert ours["sqnr_db"] == close(10 * math.log10(energy.sum() / squares.sum()), rel=1e-6)


def test_gaps_are_means_over_the_matrices(found, networks):
    sizes = np.array([math.prod(shape) for shape in base.SHAPES.values()])
    gaps = []
    for matrix, (squares, _) in zip(MATRICES, errors(networks, "int4 rows"), strict=True):
        variance = networks["model"].get_parameter(matrix).detach().double().numpy().var()
        gaps.append(0.5 * math.log2(squares.mean() / variance * 4**4))
    ours = row(found, "int4 rows")
    assert ours["gap_gauss_nominal"] == close(float(np.average(gaps, weights=sizes)), rel=1e-6)
    columns = np.array([shape[1] for shape in base.SHAPES.values()])
    scales = float(np.average(32 / columns, weights=sizes))
    assert ours["effective_bits"] == close(4 + scales, rel=CLOSED_FORM)
    assert ours["gap_gauss_effective"] - ours["gap_gauss_nominal"] == close(scales, rel=1e-9)
    assert ours["gap_rd_low_nominal"] < ours["gap_ggd_nominal"] + 1e-12
    assert ours["gap_rd_high_nominal"] == close(ours["gap_ggd_nominal"], rel=1e-9)
    each = found.tables["matrices"].query("method == 'int4 rows'")
    error = math.hypot(*(each["weights"] / sizes.sum() * each["gap_gauss_nominal_error"]))
    assert ours["gap_gauss_nominal_error"] == close(error, rel=1e-9)


@pytest.mark.parametrize(("beta", "D"), [(1.7, 0.01), (1.0, 0.1), (0.8, 0.05)])
def test_certified_rates_hold_the_solver_s(beta, D):
    low, high = certified_rate(beta, D)
    truth = rate_distortion.solve(GGD(beta), D, tol=1e-5)
    assert low <= truth.upper
    assert truth.lower <= high
    assert high - low < four_bit_weights.WIDTH
    assert certified_rate(beta, 1.5) == (0.0, 0.0)


def padded(lm: language_model.LanguageModel, lines: list[str], length: int = 10_000) -> dict[str, torch.Tensor]:
    """As the tokenizer itself pads."""
    tokenizer = lm.tokenizer
    before, tokenizer.pad_token = tokenizer.pad_token, tokenizer.eos_token
    try:
        return dict(tokenizer(lines, return_tensors="pt", padding=True, truncation=True, max_length=length))
    finally:
        tokenizer.pad_token = before


def logits(network: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.double()


@pytest.mark.parametrize("name", ["int4 rows", GPTQ.name])
def test_function_is_that_of_transformers_with_padding_masked(found, networks, subject, name):
    batch = padded(subject.lm, [f"w0 {text.text}" for text in subject.texts])
    old, new = (logits(networks[n], batch) for n in ("model", name))
    mask, ids = batch["attention_mask"].bool(), batch["input_ids"]
    ours = row(found, name)
    assert ours["tokens"] == int(mask.sum())
    assert ours["logits_mse"] == close(float((new - old).square().mean(-1)[mask].mean()), rel=FLOAT32)
    kl = (old.softmax(-1) * (old.log_softmax(-1) - new.log_softmax(-1))).sum(-1)[mask]
    assert ours["kl_bits"] == close(float(kl.mean() / math.log(2)), rel=FLOAT32)
    assert ours["kl_99_percent_bits"] == close(float(kl.sort().values[math.ceil(0.99 * len(kl)) - 1] / math.log(2)),
                                               rel=FLOAT32)  # fmt: skip
    assert ours["agreement"] == close(
        float((old.argmax(-1) == new.argmax(-1))[mask].double().mean()), rel=CLOSED_FORM
    )
    losses = [torch.nn.functional.cross_entropy(x[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")[mask[:, 1:]]
              for x in (old, new)]  # fmt: skip
    change = float((losses[1] - losses[0]).mean())
    assert ours["loss_change"] == close(change, rel=FLOAT32)
    assert ours["perplexity_ratio"] == close(math.exp(change), rel=FLOAT32)
    assert ours["amplification"] == close(ours["logits_mse"] / ours["weight_mse"], rel=CLOSED_FORM)


def test_the_notebook_s_numbers_are_those_of_its_way(found, networks, subject):
    """One matrix, one sentence, padding in the mean; written again plainly."""
    lm = subject.lm
    lines = [text.text.split(".")[0] + "." for text in subject.texts[:10]]
    for name in ("int4 rows", GPTQ.name):
        ours = row(found, name, "as_notebook")
        w, q = (networks[n].get_parameter(DOWN).detach().numpy() for n in ("model", name))
        mse = float(np.mean((w - q) ** 2))
        assert ours["weight_mse"] == close(mse, rel=1e-5)
        hundred = padded(lm, lines[:1] * 100, 128)
        old, new = (logits(networks[n], hundred) for n in ("model", name))
        assert ours["logits_mse"] == close(float((old - new).square().mean()), rel=FLOAT32)
        ce = [torch.nn.functional.cross_entropy(x[:, :-1].transpose(1, 2), hundred["input_ids"][:, 1:])
              for x in (old, new)]  # fmt: skip
        assert ours["delta_ce"] == close(float(ce[1] - ce[0]), rel=FLOAT32)
        assert ours["amplification"] == close(ours["logits_mse"] / mse, rel=1e-5)
        ten = padded(lm, lines, 128)
        square = (logits(networks["model"], ten) - logits(networks[name], ten)).square().mean(-1)
        assert ours["padded_logits_mse"] == close(float(square.mean()), rel=FLOAT32)
        assert ours["masked_logits_mse"] == close(float(square[ten["attention_mask"].bool()].mean()), rel=FLOAT32)
        assert 0.1 < ours["pads"] == close(float((ten["attention_mask"] == 0).double().mean()), rel=CLOSED_FORM)
        assert ours["gap_bits_vs_gauss"] == close(
            0.5 * math.log2(mse / (np.std(w.astype(float)) ** 2 / 4**4)), rel=1e-5
        )


def test_the_notebook_s_groups_have_17_levels(found, networks):
    w = networks["model"].get_parameter(DOWN).detach().numpy()
    groups = w.reshape(-1, 128)
    scale = 2 * np.abs(groups).max(1, keepdims=True) / 15
    mse = float(np.mean((groups - np.round(groups / scale) * scale) ** 2))
    assert row(found, "int4 g128", "as_notebook")["weight_mse"] == close(mse, rel=1e-5)
    assert (
        quantizers.get("int4").quantize(torch.from_numpy(w), 128).sub(torch.from_numpy(w)).square().mean() > 1.1 * mse
    )


def test_the_notebook_s_ggd_gap_has_nats_among_its_bits(found):
    beta = found.tables["matrices"].query("name == @DOWN and method == 'NF4'").iloc[0]["beta"]
    x, alpha = stats.gennorm(beta), 1.0
    bits = x.entropy() / math.log(2)
    theirs = 1 / beta - math.log2(beta / (2 * alpha * math.gamma(1 / beta)))
    divergence = 0.5 * math.log2(2 * math.pi * math.e * x.var()) - bits
    ours = row(found, "NF4", "as_notebook")
    assert ours["gap_bits_vs_ggd"] - ours["gap_bits_vs_gauss"] == close(divergence + bits - theirs, rel=1e-9)
    assert bits - theirs == close((math.log2(math.e) - 1) / beta, rel=1e-9)


def test_bytes_of_a_4_bit_module(found, networks):
    weights = networks["model"].get_parameter(DOWN).detach()
    stored = quantize_4bit(weights.contiguous(), quant_type="nf4")[0]
    audit = found.summary["audit"]["packed"]
    assert audit["shape"] == list(stored.shape)
    with pytest.raises(ValueError, match=re.escape(audit["refused"])):
        np.subtract(weights.numpy(), stored.float().numpy())


def test_predictions_are_sums_over_the_matrices(found):
    geometry = found.tables["geometry"].set_index("name")
    each = found.tables["matrices"].query("method == 'FP4'").set_index("name")["weight_mse"]
    ours = row(found, "FP4")
    assert ours["predicted_logits_mse"] == close(float((geometry["trace"] * each).sum() / 32), rel=1e-9)
    kl = float((geometry["fisher_trace"] * each).sum() / 2 / math.log(2))
    assert ours["predicted_kl_bits"] == close(kl, rel=1e-9)
    assert ours["predicted_amplification"] == close(ours["predicted_logits_mse"] / ours["weight_mse"], rel=1e-9)
    # Small errors that point nowhere are what the prediction is for.
    eight = row(found, "int8 rows")
    error = math.hypot(eight["predicted_logits_mse_error"], eight["logits_mse_error"])
    assert abs(eight["predicted_logits_mse"] - eight["logits_mse"]) < 4 * error


def test_first_order_and_allocations_are_on_the_texts_that_are_said(found, subject):
    here, others = four_bit_geometry.split(subject)
    assert len(here.texts) == 13
    assert len(others.texts) == 13
    assert found.summary["geometry_texts"] == 13
    assert {t.name for t in here.texts}.isdisjoint(t.name for t in others.texts)
    assert [s.ids.tolist() for s in here.sequences] == [s.ids.tolist() for s in subject.sequences[::2]]
    assert [s.text for s in here.sequences] == list(range(13))
    sweep = found.tables["first_order"].set_index("method")
    assert (sweep["texts"] == 13).all()
    assert sweep.loc["int8", "measured_over_first_order"] == close(1.0, rel=0.02)
    assert abs(sweep.loc["int2", "measured_over_first_order"] - 1) > 0.1
    for allocation in found.summary["allocations"].values():
        assert allocation["effective_bits"] <= allocation["uniform_effective_bits"] + 1e-12
        assert allocation["texts"] == 13


def test_duels_are_paired_by_text(found, subject):
    lm = subject.lm
    names = {"NF4": "nf4", "FP4": "fp4"}
    weights = {name: language_model.quantized_weights(lm, q) for name, q in names.items()}
    tokens = functional.compare_all(lm, weights, subject.sequences)
    ratio = clustered_ratio(tokens["FP4"].logits_square, tokens["NF4"].logits_square, tokens["NF4"].text)
    ours = row(found, "FP4", "against_nf4")
    assert ours["logits_mse_ratio"] == close(ratio.value, rel=1e-9)
    assert ours["logits_mse_ratio_error"] == close(ratio.standard_error, rel=1e-9)
    assert ours["functional_bits"] == close(0.5 * math.log2(ratio.value), rel=1e-9)
    difference = tokens["FP4"].nll_quantized - tokens["NF4"].nll_quantized
    known = ~np.isnan(difference)
    mean = clustered_mean(difference[known], tokens["NF4"].text[known])
    assert ours["loss_difference"] == close(mean.value, rel=1e-6)
    assert ours["loss_difference_error"] == close(mean.standard_error, rel=1e-6)


def test_correlations_are_scipy_s(found):
    rows = found.tables["methods"].query("method != 'bf16'")
    ours = found.tables["correlations"].set_index(["methods", "quantity", "method"])
    for which, mine in (("all", rows), ("4 bits", rows[rows["method"] != "int8 rows"])):
        pearson = stats.pearsonr(np.log(mine["weight_mse"]), np.log(mine["logits_mse"]))
        assert ours.loc[(which, "logits_mse", "pearson"), "r"] == close(float(pearson.statistic), rel=SUM)
        interval = pearson.confidence_interval()
        assert ours.loc[(which, "logits_mse", "pearson"), "low"] == close(float(interval.low), rel=1e-9)
        spearman = stats.spearmanr(mine["weight_mse"], mine["loss_change"])
        assert ours.loc[(which, "loss_change", "spearman"), "r"] == close(float(spearman.statistic), rel=SUM)
        assert ours.loc[(which, "kl_bits", "pearson"), "n"] == len(mine)


@pytest.mark.parametrize(("y", "verdict"), [([1, 2, 3, 4, 5], "strong"), ([2, 1, 5, 3, 4], "moderate"),
                                            ([5, 1, 2, 3, 4], "weak")])  # fmt: skip
def test_the_notebook_s_verdict_has_its_thresholds(y, verdict):
    theirs = [{"method": str(i), "weight_mse": float(i + 1), "padded_logits_mse": float(v)} for i, v in enumerate(y)]
    eight = {"method": "int8", "weight_mse": 1e-9, "padded_logits_mse": 1e9}
    ours = notebook.correlation({str(i) for i in range(5)}, [*theirs, eight])
    assert ours["verdict"] == verdict
    assert ours["n"] == 5
    assert notebook.correlation({"0", "1"}, theirs) is None


def test_checkpoints_have_the_rates_of_what_they_store(found):
    for folder in (GPTQ, AWQ):
        quantized, ours = open_quantized(folder), row(found, folder.name)
        assert ours["bits"] == 4
        assert ours["effective_bits"] == close(quantized.effective_bits(), rel=CLOSED_FORM)
        assert ours["matrices"] == len(quantized.names()) == 7


def test_summary_has_the_notebook_s_keys_both_ways(found):
    assert [m["method"] for m in found.summary["methods"]] == list(found.tables["methods"]["method"])
    for method in found.summary["methods"][1:]:
        theirs, ours = method["as_notebook"], method["corrected"]
        assert set(theirs) == {"weight_mse", "logits_mse", "delta_ce", "amplification", "gap_bits_vs_gauss",
                               "gap_bits_vs_ggd"}  # fmt: skip
        for key in theirs:
            assert theirs[key] is not None
            assert ours[key] is not None
            assert ours[f"{key}_error"] > 0
    text = " ".join(found.answer)
    assert "None" not in text
    assert "nan" not in text
    assert {"proxy", "function", "bounds", "first-order", "bits"} == set(found.figures)


def test_without_a_store_the_same_numbers(found, folder, texts):
    again = four_bit.run(folder, texts=texts, quantized=[GPTQ, AWQ])
    assert again.json() == found.json()


def test_one_text_has_no_errors_and_says_so(folder):
    alone = four_bit.run(folder, texts=[str(folder.parent / "one.txt")])
    assert alone.tables["methods"]["logits_mse_error"].isna().all()
    text = " ".join(alone.answer)
    assert "?" in text
    assert "nan" not in text
    assert "None" not in text
    assert "small sample" in text
    json.dumps(alone.json(), allow_nan=False)


def test_another_base_is_refused_with_the_evidence(folder, texts, tmp_path):
    other = tiny(tmp_path / "other")
    weights = base.weights()
    weights[DOWN] = weights[DOWN].flip(0).contiguous()
    base.save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    command = ["run", "four-bit", str(other), "--quantized", str(GPTQ), "--text", texts[0], "--out", str(tmp_path)]
    refused = RUN.invoke(app, command)
    assert refused.exit_code == 2
    assert DOWN in refused.stderr
    assert "is not what" in refused.stderr
    assert "correlation" in refused.stderr
    assert not (tmp_path / "other").joinpath("four-bit").exists()


def test_two_checkpoints_of_one_name_are_refused(folder, subject):
    with pytest.raises(ValueError, match=f"two methods are called {GPTQ.name}"):
        methods(subject.lm, [GPTQ, GPTQ])


def test_command_measures_nothing_again_and_writes_what_it_says(folder, texts, kept, found, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    for module, name in (
        (degradation, "compare"), (four_bit, "row_sums"), (notebook, "functional"),
        (four_bit_geometry.amplification, "measure"), (four_bit_geometry.amplification, "sweep"),
        (four_bit_geometry, "fisher"), (four_bit_geometry.activations, "moments"),
        (four_bit_geometry.allocation, "apply"), (sensitivity, "traces"), (four_bit_weights, "_law"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, refuse)
    (tmp_path / "measurements.sqlite").write_bytes(kept.read_bytes())
    command = ["run", "four-bit", str(folder), "--quantized", str(GPTQ), "--quantized", str(AWQ), "--text", texts[0],
               "--out", str(tmp_path), "--json"]  # fmt: skip
    done = RUN.invoke(app, command)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == found.json()
    place = tmp_path / "tiny" / "four-bit"
    assert {path.name for path in place.glob("*.png")} == {f"{name}.png" for name in found.figures}
    assert "four-bit" in (tmp_path / "report.html").read_text()


def test_rows_of_gpt2_are_its_outputs():
    """Its layers hold the transpose of what others do."""
    from tests.empirics import tiny_models

    lm = tiny_models.model("gpt2", dtype=torch.float32)
    name = next(iter(lm.linear()))
    new = lm.parameter(name) + torch.arange(16.0)[:, None]  # an error for each input
    sums = row_sums(lm, {name: new})[name]
    assert (sums.rows, sums.columns) == (48, 16)
    # The rows are alike: there is no spread.
    assert WeightMSE.of([sums]).absolute_error < 1e-6 * WeightMSE.of([sums]).absolute
    assert WeightMSE.of([sums]).absolute == close(float((torch.arange(16.0) ** 2).mean()), rel=1e-6)


def test_errors_of_the_exponent_are_in_the_ggd_s_gap():
    mse = WeightMSE(0.01, 0.0, 0.01, 0.0)
    wide, sharp = (four_bit_weights.rates(Law(1.0, 1.6, error), mse)["ggd_error"] for error in (0.05, 0.0))
    step = 1e-4
    slope = (stats.gennorm(1.6 + step).entropy() - stats.gennorm(1.6 - step).entropy()) / (2 * step)
    deviation = (math.log(stats.gennorm(1.6 + step).std()) - math.log(stats.gennorm(1.6 - step).std())) / (2 * step)
    assert sharp == 0
    assert wide == close(0.05 * abs(slope - deviation) / math.log(2), rel=0.01)
