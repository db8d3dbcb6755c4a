"""``quantgap run layers``: sums that are known, errors by resampling, and a tiny model from the command line."""

import json
import math

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from empirics.cli import app
from empirics.experiments import degradation
from empirics.experiments.degradation import Degradation, WeightError
from empirics.experiments.layers import experiment as layers
from empirics.functional import Sequence
from empirics.language_model import open_model, quantized_weights
from empirics.traces import Traces
from tests.tolerances import CLOSED_FORM, STANDARD_ERRORS, close

RUN = CliRunner()
TEXTS, VOCABULARY = 40, 50


def made(name: str, logits: np.ndarray, sizes: np.ndarray, matrices: dict[str, WeightError]) -> Degradation:
    """Of which the logits MSE is given text by text, and the loss change is half of it."""
    totals = dict.fromkeys(("logits_mse", "kl_bits"), logits * sizes)
    totals |= {"loss_change": 0.5 * logits * sizes, "loss_change_square": logits**2}
    counts = {"predictions": sizes, "tokens": sizes}
    return Degradation(name, np.array(["en"] * TEXTS), counts, totals, matrices, {})


def parts(seed: int = 0) -> tuple[list[Degradation], Degradation, np.ndarray]:
    """Two layers that add up in every text, and the tokens of the texts."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(20, 60, TEXTS)
    one, two = rng.gamma(9.0, 0.1, TEXTS), rng.gamma(4.0, 0.1, TEXTS)
    a, b = {"a": WeightError(100, 2.0, 50.0)}, {"b": WeightError(300, 3.0, 60.0)}
    found = [made("layer 0", one, sizes, a), made("layer 1", two, sizes, b)]
    return found, made("all", one + two, sizes, a | b), sizes


def table(found: list[Degradation], whole: Degradation) -> list[dict]:
    traces = Traces(["a", "b"], np.array([[[6.0, 10.0]], [[8.0, 14.0]]]), [Sequence(0, "en", np.zeros(2))], 0.5)
    measured = {m.name: m for m in found} | {"all": whole}
    measured |= {f"all but {name}": m for name, m in zip(("layer 0", "layer 1"), found[::-1], strict=True)}
    return layers.table({"layer 0": ["a"], "layer 1": ["b"]}, measured, traces, VOCABULARY)


def test_shares_and_predictions_of_layers_that_add_up():
    found, whole, sizes = parts()
    one, two = table(found, whole)
    mean = [float(m.totals["logits_mse"].sum() / sizes.sum()) for m in found]
    assert one["share"] == close(mean[0] / sum(mean), rel=CLOSED_FORM)
    assert one["share"] + two["share"] == close(1.0, rel=CLOSED_FORM)
    assert one["share_error"] == close(two["share_error"], rel=CLOSED_FORM)
    # Alone and in the whole are the same where everything adds up.
    assert one["within"] == close(one["measured"], rel=CLOSED_FORM)
    # m tr(G)/V: traces of 7 and 12 over two tokens.
    assert one["predicted"] == close(0.02 * 7 / 2 / VOCABULARY, rel=CLOSED_FORM)
    assert two["predicted"] == close(0.01 * 12 / 2 / VOCABULARY, rel=CLOSED_FORM)
    assert one["predicted_share"] == close(0.14 / 0.26, rel=CLOSED_FORM)


def test_the_error_of_a_share_is_the_jackknifes():
    found, whole, _ = parts()
    totals = np.array([m.totals["logits_mse"] for m in found])
    without = totals.sum(1, keepdims=True) - totals
    shares = without[0] / without.sum(0)
    jackknife = math.sqrt((TEXTS - 1) ** 2 / TEXTS * shares.var(ddof=1))
    assert table(found, whole)[0]["share_error"] == close(jackknife, rel=0.05)


def test_additivity_is_found_and_refuted():
    found, whole, _ = parts()
    exact = layers.additivity(found, whole)["logits_mse"]
    assert abs(exact["excess"]) < CLOSED_FORM
    more = layers.additivity([*found, found[1]], whole)
    assert more["logits_mse"]["excess"] == close(table(found, whole)[1]["share"], rel=CLOSED_FORM)
    assert more["logits_mse"]["p"] < 1e-6
    assert more["loss_change"]["excess"] == close(found[1].mean("loss_change").value, rel=CLOSED_FORM)


def test_a_level_of_five_per_cent_is_kept():
    """Parts that add up on average, and not in any text."""
    rejected = 0
    for seed in range(200):
        found, whole, sizes = parts(seed)
        noise = np.random.default_rng(1000 + seed).normal(0, 0.2, TEXTS) * sizes
        totals = whole.totals | {"logits_mse": whole.totals["logits_mse"] + noise}
        p = layers.additivity(found, Degradation("all", whole.languages, whole.sizes, totals, whole.matrices, {}))
        rejected += p["logits_mse"]["p"] < 0.05
    assert abs(rejected - 10) < STANDARD_ERRORS * math.sqrt(200 * 0.05 * 0.95)


@pytest.fixture(scope="module")
def english(tmp_path_factory):
    file = tmp_path_factory.mktemp("texts") / "en.txt"
    file.write_text("The night bus is late.\n\nWe thank all citizens.\n\nPeace and freedom.\n\nOpen the file.\n")
    return file


def test_from_the_command_line(tmp_path, english):
    given = ["run", "layers", "pocket-llama", "--out", str(tmp_path), "--text", f"en={english}", "--json",
             "--quantizer", "int3"]  # fmt: skip
    found = RUN.invoke(app, given)
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    rows = document["tables"]["groups"]
    assert [row["group"] for row in rows if row["kind"] == "layer"] == [str(i) for i in range(6)]
    assert {row["group"] for row in rows if row["kind"] == "role"} == {"q", "k", "v", "o", "gate", "up", "down"}
    assert sum(row["weights"] for row in rows) == 2 * (5_242_880 - 2048 * 256)
    for kind in ("layer", "role"):
        assert sum(row["share"] for row in rows if row["kind"] == kind) == close(1.0, rel=CLOSED_FORM)
    assert document["summary"]["small"] is True
    assert (tmp_path / "pocket-llama" / "layers" / "parts.png").read_bytes().startswith(b"\x89PNG")
    # One layer by another road: the two networks' own logits.
    lm = open_model("pocket-llama")
    names = [name for name in lm.linear() if ".layers.2." in name]
    subject = degradation.open_subject("pocket-llama", texts=[f"en={english}"])
    square, count = 0.0, 0
    before = [lm.network(torch.from_numpy(s.ids)[None]).logits for s in subject.sequences]
    for name, weight in quantized_weights(lm, "int3", 64, names).items():
        lm.parameter(name).data = weight
    for s, old in zip(subject.sequences, before, strict=True):
        difference = lm.network(torch.from_numpy(s.ids)[None]).logits - old
        square, count = square + float(difference.double().square().sum()), count + difference.numel()
    assert rows[2]["measured"] == close(square / count, rel=1e-4)  # float32 logits in batches of another shape
    again = RUN.invoke(app, given)
    assert json.loads(again.stdout)["tables"] == document["tables"]
