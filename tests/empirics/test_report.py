import csv
import io
import json as jsonlib
import math
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from empirics import page, report
from empirics.checks import Verdict
from tests.empirics import runs
from theory.ledger import STEPS

VOID = {"meta", "img", "br"}
EVIL = "<script>alert('x')</script>&\"[red]\x1b[31m\u202e\ud800.weight"


class Page(HTMLParser):
    """The text of a page by tag; fails where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and "script" not in self.open:
            self.text += data
            if {"td", "th"} & set(self.open):
                self.cells[-1] += data


def parsed(results: report.Results) -> Page:
    return Page(report.html(results, runs.verdicts(results)))


def printed(thing: object, width: int = 120) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(thing)
    return console.export_text()


# The page.


def test_page_has_the_numbers_of_the_run() -> None:
    results = runs.run()
    read = parsed(results)
    for quantizer in results.quantizers:
        total = results.total(quantizer)
        for step in total.steps:
            assert report.plots.signed(step.bits) in read.cells
        assert f"{total.effective_total:.3f}" in read.cells
        assert page.plus_minus(total.total, page.total_error(results.of(quantizer))) in read.cells
    for m in results.measurements:
        row = read.cells[read.cells.index(page.plus_minus(m.ledger.total, page.gap_error(m))) - 6 :][:8]
        assert row[:3] == ["30×100", "1.625 ± 0.012", "1.875 ± 0.017"]
        unit = {"nf4": 1e-3, "fp4": 1e-2}[m.quantizer]  # the smallest is 0.0081, 0.0102
        assert row[3].split(" ± ") == [f"{m.measured_mse / unit:.3f}", f"{m.mse_error / unit:.3f}"]
        assert row[4:6] == ["−6.5 ± 0.9", "+1.5 ± 1.0"]
        assert row[7] == f"{m.ledger.effective_total:.3f}"
    for needed in ("tiny-llama", "abc123", "12,000 weights in 2 matrices", "blocks of 64", "3 of 9 weights are NaN",
                   "1 dimensions, not 2", "python 3.11.7", "torch not installed", "Linux"):  # fmt: skip
        assert needed in read.text


def test_answer_says_how_far_where_and_what_is_left() -> None:
    results = runs.run()
    said = page.answer(results, {q: results.total(q) for q in results.quantizers})
    total = results.total("nf4")
    assert total.total == pytest.approx(0.5302 + 8 * 0.01 * 0.75)  # the mean over 3000 and 9000 weights
    assert "4.5 bits" in said[0]
    assert f"with {4 - total.total:.3f} bits" in said[0]
    assert f"gap is {total.effective_total:.3f} bits a weight, or {total.total:.3f} when" in said[0]
    assert f"fp4 is at {results.total('fp4').effective_total:.3f}" in said[0]
    assert said[1] == (
        "The scales cost 0.500 bits. Of the rest the largest part is “fixed-length indices”, +0.407; “block scaling”"
        " gives back 0.142."
    )
    assert total.steps[-1].bits == pytest.approx(0.0175)
    assert said[2] == (
        f"What theory does not explain is {report.plots.signed(total.steps[-1].bits)} bits on average over the"
        " weights. In a matrix it is 0.015 on average, signs aside, and +0.020 in the worst, 1.mlp.up_proj."
    )


def test_agreement_names_the_worst() -> None:
    good = runs.measurement("model.layers.3.a.weight")
    bad = replace(good, statistics=replace(good.statistics, name="bad"), predicted_mse_row=good.measured_mse / 0.9)
    said = page.agreement([good, bad])
    assert said == (
        "1 of 2 matrices is within 2 % of the row-conditional prediction, and 0 of the iid one. The row-conditional"
        " prediction is furthest off for bad (−10.0 ± 0.9 %), 3.a (+1.5 ± 1.0 %)."
    )


def test_mean_residual_weighs_by_size() -> None:
    one, two = runs.measurement("a"), runs.measurement("b", weights=9000)
    two = replace(two, predicted_mse_row=two.measured_mse / 1.1)
    expected = (1 / 0.985) ** 0.25 * 1.1**0.75 - 1
    assert page.mean_residual([one, two], "row") == pytest.approx(expected)
    assert page.mean_residual([one], "iid") == pytest.approx(one.residual_iid)


def test_errors_of_gaps() -> None:
    one, two = runs.measurement("a"), runs.measurement("b", weights=9000)
    assert page.gap_error(one) == pytest.approx(math.log2(1.01) / 2, rel=0.01)
    assert page.total_error([one]) == page.gap_error(one)
    assert page.total_error([one, two]) == pytest.approx(page.gap_error(one) * math.hypot(0.25, 0.75))


def test_claims_are_counted_and_violations_read_as_the_model() -> None:
    results = runs.run()
    rows = {row.claim.id: row for row in page.judged(runs.verdicts(results))}
    assert list(rows) == list(page.CLAIMS)
    assert (rows["block.converse"].holds, rows["block.best-codebook"].violated[0].tensor) == (
        4, "model.layers.0.mlp.up_proj.weight",
    )  # fmt: skip
    assert rows["ggd.stam"].reasons == [("compares theory with theory: nothing is measured", 4)]
    tightest = rows["block.converse"].tightest
    assert tightest is not None
    assert (tightest.margin, page.margin(tightest), page.relation(tightest)) == (0.007, "+14.0 s.e.", "≤")
    read = parsed(results)
    assert "4 checks hold, 4 are violated" in read.text
    assert "not iid generalized Gaussian. It does not say that the inequality is wrong." in read.text
    assert "0.00934 > 0.00897" in read.text
    assert "4 × compares theory with theory" in read.text
    assert read.cells.count("−7.4 s.e.") == 4


def test_a_violation_that_assumes_nothing_is_no_property_of_the_matrix() -> None:
    results = runs.run(["nf4"])
    broken = Verdict("block.error-pointwise", "w", "nf4", "violated", "", 0.2, 0.15, -0.05, 0.0)
    text = Page(report.html(results, [broken])).text
    assert "Inequalities" not in report.html(results, [])  # given, though empty: not judged again
    assert "look for a mistake in the measurement" in text
    assert "−25 %" in text
    assert "It does not say that the inequality is wrong" not in text


@pytest.mark.parametrize(
    ("lhs", "rhs", "error", "margin", "relation"),
    [(1.0, 2.0, 0.0, "+50 %", "≤"), (2.0, 1.0, 0.0, "−50 %", ">"), (1 + 1e-8, 1.0, 0.0, "0, but for rounding", "≈"),
     (1.0, 2.0, 0.25, "+4.0 s.e.", "≤"), (0.0, 0.0, 0.0, "0, but for rounding", "≈")],
)  # fmt: skip
def test_margins(lhs: float, rhs: float, error: float, margin: str, relation: str) -> None:
    verdict = Verdict("c", "t", "q", "holds", "", lhs, rhs, rhs - lhs, error)
    assert (page.margin(verdict), page.relation(verdict)) == (margin, relation)


def test_everything_is_escaped() -> None:
    evil = runs.measurement(EVIL, role=EVIL, notes=[EVIL], layer=None)
    results = runs.run(
        model=EVIL, revision=EVIL, measurements=[evil], failures=[(EVIL, EVIL)], skipped=[(EVIL, EVIL)],
        provenance={EVIL: EVIL, "versions": {EVIL: EVIL}},
    )  # fmt: skip
    text = report.html(results, [replace(v, reason=EVIL) for v in runs.verdicts(results)])
    read = Page(text)
    assert [tag for tag, _ in read.tags].count("script") == 1
    assert "<script>alert('x')</script>&\"[red]\ufffd[31m\ufffd\ufffd.weight" in read.text
    assert not set("\x1b\u202e\ud800") & set(text)
    terminal = printed(report.table(results, "nf4")) + printed(report.summary(results))
    assert "[red]" in terminal.replace("\n", "")
    assert not set("\x1b\u202e\ud800") & set(terminal)
    text.encode()


def test_page_fetches_nothing() -> None:
    text = report.html(runs.run(), runs.verdicts(runs.run()))
    read = Page(text)
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"@import|url\(|srcset|<link", text)
    for tag, attributes in read.tags:
        for name in ("src", "href", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/svg+xml;base64,")), tag
    policy = next(a["content"] for t, a in read.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert all(attributes.get("alt") for tag, attributes in read.tags if tag == "img")
    assert [tag for tag, _ in read.tags].count("img") == 3
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_sorting_has_a_number_behind_every_number() -> None:
    results = runs.run()
    values = [attributes.get("data-value") for tag, attributes in parsed(results).tags if tag == "td"]
    numbers = {float(value) for value in values if value is not None}
    for m in results.measurements:
        assert {m.measured_mse, m.ledger.total, m.residual_row, m.statistics.beta, 3000.0} <= numbers


@pytest.mark.parametrize("measured", [[], [runs.measurement(layer=None, beta_error=None, beta_row_error=None)]])
def test_little_or_nothing_was_measured(measured: list[report.Measurement], tmp_path: Path) -> None:
    results = runs.run(measurements=measured)
    read = parsed(results)
    assert "3 of 9 weights are NaN" in read.text
    assert "3 of 9 weights are NaN" in printed(report.summary(results))
    assert ("Nothing could be measured" in read.text) == (not measured)
    assert [tag for tag, _ in read.tags].count("img") == 2 * len(measured)
    assert ("1.625 ± ?" in read.cells) == bool(measured)
    assert ("1.625±?" in printed(report.table(results, "nf4"))) == bool(measured)
    written = report.write(results, tmp_path, [])
    assert set(written) == {"page"} | (
        {"measurements", "waterfall", "waterfall-svg", "ledger-nf4"} if measured else set()
    )
    assert report.json(results, "nf4")["bits"] == 4


# The terminal.


def test_terminal_rows() -> None:
    results = runs.run()
    text = printed(report.table(results, "fp4"))
    m = results.of("fp4")[1]
    row = next(line for line in text.splitlines() if line.strip().startswith("1.mlp.up_proj"))
    assert row.split() == [
        "1.mlp.up_proj", "up", "30x100", "1.625±0.012", "1.875±0.017", f"{m.measured_mse:.4g}", "-6.5", "+1.5",
        f"{m.ledger.total:.3f}±0.007", f"{m.ledger.effective_total:.3f}",
    ]  # fmt: skip
    assert f"{results.total('fp4').total:.3f}±" in text.splitlines()[-3]
    assert "12,000" in text


@pytest.mark.parametrize("name", ["model.layers.31.self_attn.q_proj.weight", "x" * 400])
def test_terminal_fits_120_columns_and_cuts_nothing(name: str) -> None:
    worst = runs.measurement(name, role="embedding", shape=[262144, 16384], notes=["n"])
    text = printed(report.table(runs.run(measurements=[worst]), "nf4"))
    assert max(map(len, text.splitlines())) <= 120
    assert "…" not in text
    for needed in ("embedding", "262144x16384", "1.625±0.012", "1.030"):
        assert needed in text
    assert text.count("x") >= name.count("x")


def test_names_are_no_markup() -> None:
    text = printed(report.table(runs.run(measurements=[runs.measurement("[red]x", role="[b]")]), "nf4"))
    assert next(line.split()[:2] for line in text.splitlines() if "30x100" in line) == ["[red]x", "[b]"]


def test_summary_adds_up() -> None:
    results = runs.run()
    lines = printed(report.summary(results)).splitlines()
    numbers = {
        line[:28].strip(): [float(x) for x in re.findall(r"(?<![±\d] )[-+]?\d+\.\d+", line[28:])] for line in lines
    }
    for column in (0, 1):
        steps = [numbers[label][column] for label in map(report.plots.LABELS.get, STEPS)]
        assert math.fsum(steps) == pytest.approx(results.total(results.quantizers[column]).total, abs=0.004)
    assert numbers[report.plots.EFFECTIVE] == [round(results.total(q).effective_total, 3) for q in results.quantizers]
    assert "2 matrices measured; 1 tensor skipped, no weight matrices; 1 could not be measured." in lines


# JSON, CSV and files.


def test_json_is_exactly_the_contract() -> None:
    results = runs.run()
    made = jsonlib.loads(jsonlib.dumps(report.json(results, "fp4"), allow_nan=False))
    assert set(made) == {"model", "quantizer", "bits", "effective_bits", "block_size", "tensors", "model_total"}
    assert [made[key] for key in ("model", "quantizer", "bits", "effective_bits", "block_size")] == [
        "tiny-llama", "fp4", 4, 4.5, 64,
    ]  # fmt: skip
    for tensor, m in zip(made["tensors"], results.of("fp4"), strict=True):
        assert set(tensor) == {
            "name", "role", "shape", "beta", "beta_row", "measured_mse", "predicted_mse_iid", "predicted_mse_row",
            "total_bits", "steps",
        }  # fmt: skip
        assert (tensor["name"], tensor["role"], tensor["shape"]) == (m.statistics.name, "up", [30, 100])
        for name in ("measured_mse", "predicted_mse_iid", "predicted_mse_row"):
            assert tensor[name] == getattr(m, name)
        assert (tensor["beta"], tensor["beta_row"]) == (1.625, 1.875)
        assert [step["name"] for step in tensor["steps"]] == list(report.STEPS)
        assert math.fsum(step["bits"] for step in tensor["steps"]) == pytest.approx(tensor["total_bits"])
    total = made["model_total"]
    assert set(total) == {"weights", "total_bits", "effective_total_bits", "steps"}
    assert total["weights"] == 12000
    assert math.fsum(step["bits"] for step in total["steps"]) == pytest.approx(total["total_bits"])
    assert total["effective_total_bits"] == pytest.approx(total["total_bits"] + 0.5)


def test_json_of_nothing_and_of_an_unknown_quantizer() -> None:
    made = report.json(runs.run(measurements=[]), "nf4")
    assert (made["bits"], made["effective_bits"], made["tensors"]) == (4, 4.5, [])
    assert made["model_total"] == {"weights": 0, "total_bits": None, "effective_total_bits": None, "steps": []}
    with pytest.raises(ValueError, match="nf5"):
        report.json(runs.run(), "nf5")


def test_csv_round_trip() -> None:
    odd = runs.measurement('a,"b"\n;é', beta_error=None, layer=None, notes=["one", "two"])
    results = runs.run(measurements=[*runs.run().measurements, odd])
    rows = list(csv.DictReader(io.StringIO(report.csv_text(results), newline="")))
    assert [(row["tensor"], row["quantizer"]) for row in rows] == [
        (m.statistics.name, m.quantizer) for m in results.measurements
    ]
    for row, m in zip(rows, results.measurements, strict=True):
        assert None not in row
        for name in ("beta", "beta_row", "beta_row_error", "variance", "kurtosis_error"):
            assert float(row[name]) == getattr(m.statistics, name)
        for name in ("measured_mse", "mse_error", "predicted_mse_iid", "absmax_mean_error", "residual_row"):
            assert float(row[name]) == getattr(m, name)
        assert float(row["total_bits_error"]) == page.gap_error(m)
        assert [float(row[f"step_{step.name}"]) for step in m.ledger.steps] == [step.bits for step in m.ledger.steps]
    assert (rows[-1]["beta_error"], rows[-1]["layer"], rows[-1]["notes"]) == ("", "", "one; two")


def test_write(tmp_path: Path) -> None:
    results = runs.run()
    folder = tmp_path / "new" / "folder"
    written = report.write(results, folder, runs.verdicts(results))
    assert {path.name for path in written.values()} == set(os.listdir(folder)) == {
        "ledger.html", "measurements.csv", "waterfall.png", "waterfall.svg", "ledger-nf4.json", "ledger-fp4.json",
    }  # fmt: skip
    assert written["page"].read_text(encoding="utf-8") == report.html(results, runs.verdicts(results))
    assert jsonlib.loads(written["ledger-fp4"].read_text()) == report.json(results, "fp4")
    assert written["measurements"].read_bytes().decode() == report.csv_text(results)
    assert written["waterfall"].read_bytes().startswith(b"\x89PNG")


def test_what_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "ledger.html"
    old.write_text("old")

    def full(self: Path, data: bytes) -> int:
        with open(self, "wb") as file:
            file.write(data[:10])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        report.write(runs.run(["nf4"]), tmp_path, [])
    assert old.read_text() == "old"
    assert os.listdir(tmp_path) == ["ledger.html"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("model.layers.0.mlp.down_proj.weight", "0.mlp.down_proj"), ("lm_head.weight", "lm_head"), ("weight", "weight"),
     ("model.", "model."), ("encoder.layers.1.x", "encoder.1.x"), ("a\nb", "a\ufffdb")],
)  # fmt: skip
def test_short_names(name: str, expected: str) -> None:
    assert page.short(name) == expected


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(1.5, 0.02, "1.500 ± 0.020"), (1.5, 0.0004, "1.5000 ± 0.0004"), (1.5, None, "1.500 ± ?"),
     (1.5, 0.0, "1.500 ± 0.000")],
)  # fmt: skip
def test_plus_minus(value: float, error: float | None, text: str) -> None:
    assert page.plus_minus(value, error) == text
