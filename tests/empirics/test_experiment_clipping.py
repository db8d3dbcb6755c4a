"""``quantgap run clipping``: effects that are known, grids by hand, and a small run from the command line."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from empirics import activations, weighted_histogram
from empirics.cli import app
from empirics.experiments import degradation
from empirics.experiments.clipping import calibration
from empirics.experiments.clipping import experiment as clipping
from empirics.language_model import open_model
from tests.tolerances import STANDARD_ERRORS, close

RUN = CliRunner()
TEXTS, GRIDS = 30, 6


def sums(effect: float, seed: int) -> tuple[list, list]:
    """Two clips of which one has `effect` more, with grids and texts that scatter by 5 and 20 %."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(20, 60, TEXTS)
    ours, theirs = [], []
    for _ in range(GRIDS + 1):
        common = rng.gamma(25.0, 0.04, TEXTS) * sizes
        theirs.append([common, sizes])
        ours.append([common * (1 + effect + rng.normal(0, 0.05) + rng.normal(0, 0.1, TEXTS)), sizes])
    return ours, theirs


def test_a_change_covers_at_its_rate():
    covered = 0
    for seed in range(300):
        found = clipping.change(*sums(-0.1, seed))
        covered += found["low"] < -0.1 < found["high"]
    # Student's t of the fewer degrees is on the safe side: no fewer than 95 %, but for chance.
    assert covered >= 300 * 0.95 - STANDARD_ERRORS * math.sqrt(300 * 0.95 * 0.05)
    assert covered < 300


def test_texts_alone_would_find_what_is_not_there():
    """The error of texts misses the grids': the test of the difference of two single grids rejects far too often."""
    false = honest = 0
    for seed in range(200):
        ours, theirs = sums(0.0, seed)
        found = clipping.change(ours, theirs)
        (a, _), (b, _) = ours[0], theirs[0]
        beyond = a - a.sum() / b.sum() * b
        error = math.sqrt(TEXTS / (TEXTS - 1) * beyond @ beyond) / b.sum()
        false += abs(found["unshifted"]) > 1.96 * error
        honest += found["p"] < 0.05
    assert false > 60
    assert honest <= 10 + STANDARD_ERRORS * math.sqrt(200 * 0.05 * 0.95)


def test_the_verdict_is_what_the_interval_says():
    assert clipping.verdict(clipping.change(*sums(-0.4, 0))) == "supported"
    assert clipping.verdict(clipping.change(*sums(0.4, 0))) == "contradicted"
    assert clipping.verdict({"low": -0.1, "high": 0.2}) == "not shown"


def test_a_clip_by_hand():
    weights = torch.tensor([[-2.0, -0.4, 0.0, 0.26, 0.9, 5.0]])
    step = 1.5 / 3
    by_hand = [max(-3, min(3, round(w / step))) * step for w in weights[0].tolist()]
    assert calibration.clipped(weights, 1.5, 3)[0].tolist() == by_hand


def test_shifted_grids_have_the_same_error_and_other_draws():
    weights = torch.randn(200, 500, generator=torch.Generator().manual_seed(0))
    plain, *shifted = (calibration.clipped(weights, 3.0, 4, seed) - weights for seed in (None, 1, 2))
    inside = weights.abs() < 2.4  # a step from the last level: what is beyond is clipped by the shift as well
    # A shift of all but one makes the error uniform: a twelfth of the step squared.
    for error in shifted:
        squares = error[inside].double().square()
        uniform = (3 / 7) ** 2 / 12
        assert float(squares.mean()) == close(uniform, rel=STANDARD_ERRORS * math.sqrt(0.8 / len(squares)))
        assert error[inside].abs().max() <= 3 / 14 + 1e-6
    for a, b in ((plain, shifted[0]), (shifted[0], shifted[1])):
        r = np.corrcoef(a[inside].numpy(), b[inside].numpy())[0, 1]
        assert abs(r) < STANDARD_ERRORS / math.sqrt(int(inside.sum()))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "en.txt").write_text("The night bus is late.\n\nWe thank all citizens.\n\nPeace.\n\nOpen the file.\n")
    (folder / "sw.txt").write_text("Watu wote wamezaliwa huru.\n\nFungua faili.\n\nKaribu nyumbani.\n")
    return [f"{language}={folder / language}.txt" for language in ("en", "sw")]


def test_halves_share_no_text_and_leave_none_out(files):
    subject = degradation.open_subject("pocket-bloom", texts=files)
    halves = clipping.halved(subject)
    assert sorted(t.name for half in halves for t in half.texts) == sorted(t.name for t in subject.texts)
    assert [len(half.texts) for half in halves] == [4, 3]
    for half in halves:
        assert half.languages == ["en", "sw"]
        for sequence in half.sequences:
            words = half.lm.tokenizer.decode(sequence.ids, skip_special_tokens=True)
            assert half.texts[sequence.text].text.startswith(words.strip()[:10])


def test_one_text_cannot_be_halved(files, tmp_path):
    (tmp_path / "he.txt").write_text("שלום לכולם\n", encoding="utf-8")
    subject = degradation.open_subject("pocket-bloom", texts=[*files, f"he={tmp_path / 'he.txt'}"])
    with pytest.raises(ValueError, match="he has one text: give two"):
        clipping.halved(subject)


def test_mean_squares_are_the_diagonal_of_the_second_moments(files):
    lm = open_model("pocket-bloom")
    subject = degradation.open_subject("pocket-bloom", texts=files)
    name = next(iter(lm.linear()))
    found = activations.mean_squares(lm, subject.sequences, [name])[name]
    inputs: list[torch.Tensor] = []
    module = lm.network.get_submodule(name.removesuffix(".weight"))
    hook = module.register_forward_pre_hook(lambda _, args: inputs.append(args[0][0].double()))
    for s in subject.sequences:
        lm.network(torch.from_numpy(s.ids)[None])
    hook.remove()
    assert torch.allclose(found, torch.cat(inputs).square().mean(0), rtol=1e-4)


def test_from_the_command_line(tmp_path, files, monkeypatch):
    monkeypatch.setattr(clipping, "DRAWS", 2)
    given = ["run", "clipping", "pocket-bloom", "--out", str(tmp_path), "--json"]
    for file in files:
        given += ["--text", file]
    found = RUN.invoke(app, given)
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    assert [row["language"] for row in document["tables"]["languages"]] == ["en", "sw", "all"]
    assert document["summary"]["hypothesis"]["verdict"] in ("supported", "not shown", "contradicted")
    assert document["summary"]["small"] is True
    assert (tmp_path / "pocket-bloom" / "clipping" / "languages.png").read_bytes().startswith(b"\x89PNG")
    # The clip of a language is the best one of a grid search on its own weighted histogram.
    clips = pd.DataFrame(document["tables"]["clips"])
    subject = degradation.open_subject("pocket-bloom", texts=files)
    name = next(iter(subject.lm.linear()))
    half = clipping.halved(subject)[1]  # what the first half is held out from
    squares = activations.mean_squares(subject.lm, [s for s in half.sequences if s.language == "sw"], [name])[name]
    matrix = subject.lm.parameter(name)
    own = clips[(clips["half"] == 0) & (clips["matrix"] == name) & (clips["clips"] == "sw")]["clip"].item()

    def cost(clip: float) -> float:
        error = calibration.clipped(matrix.double(), clip, 4) - matrix.double()
        return float((error.square() * squares).sum())

    assert min(cost(own * x) for x in np.linspace(0.7, 1.3, 61)) >= cost(own) * (1 - 1e-9)
    source = weighted_histogram.exact(matrix, squares)
    assert cost(own) == close(
        float(calibration.clipping.clip_mse(own, source, 4, "symmetric") * source.counts.sum()), rel=1e-6
    )
    again = RUN.invoke(app, given)
    assert json.loads(again.stdout)["tables"] == document["tables"]
