"""The command line, ``quantgap ...``, also as ``python -m empirics ...``: what needs a model."""

from __future__ import annotations

import json
import math
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from empirics.cli_run import AsJson, Model, Revision, report, run
from empirics.cli_theory import audit, rate
from empirics.terminal import ERROR, clear_errors, console, exit_on, progress, say_files

if TYPE_CHECKING:  # torch takes seconds to import: --help does without
    from empirics.engine import Results

DEFAULT_QUANTIZERS = ("nf4", "fp4", "int4")

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="How far is a quantized model from Shannon's limit, and where do the bits go?",
)  # fmt: skip

Quantizers = Annotated[
    list[str] | None,
    typer.Option("--quantizer", "-q", help="nf4, fp4, intB; repeatable. [default: nf4, fp4, int4; with --json: nf4]"),
]
BlockSize = Annotated[int, typer.Option(help="Weights that share a scale.")]
Out = Annotated[Path, typer.Option(help="Folder for the page, the figures and the measurements (made if missing).")]

app.add_typer(run, name="run")
for command in (report, rate, audit):
    app.command()(command)


@app.callback()
def _commands() -> None:
    """Keep the commands' names, also while there are few."""


@app.command()
def ledger(
    model: Model = "pocket-llama",
    quantizer: Quantizers = None,
    block_size: BlockSize = 64,
    out: Out = Path("ledger"),
    as_json: AsJson = False,
    revision: Revision = None,
    base: Annotated[
        str | None,
        typer.Option(help="What MODEL was quantized from: bitsandbytes, GPTQ, AWQ, compressed-tensors or GGUF."),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser when done.")] = False,
) -> None:
    """Measure every weight matrix of MODEL and say where each fraction of a bit goes.

    Prints a table, and writes OUT/ledger.html with figures. A run that was interrupted goes on where it stopped.
    With --base, MODEL's own format and scales are measured, matrix by matrix, and the page is OUT/report.html.

    Example: quantgap ledger pocket-llama --quantizer nf4 --block-size 64 --out ledger

    Example: quantgap ledger Llama-3.2-1B-GPTQ --base Llama-3.2-1B
    """
    with clear_errors():
        from empirics import report as pages

        if base is not None:
            if quantizer:
                raise ValueError("--base measures the format that MODEL is in: leave --quantizer out")
            _ledger_of_quantized(model, base, revision, out, as_json, open_page)
            return
        names = quantizer or (["nf4"] if as_json else list(DEFAULT_QUANTIZERS))
        if as_json and len(names) > 1:
            raise ValueError(f"--json prints one ledger: give one --quantizer, not {', '.join(names)}")
        results = _measure(model, names, block_size, out, revision)
        written = pages.write(results, out)
        if as_json:
            print(json.dumps(pages.json(results, names[0]), indent=2))
        else:
            for name in results.quantizers:
                console().print(pages.table(results, name))
            console().print(pages.summary(results))
            say_files(written)
        if open_page:
            webbrowser.open(written["page"].resolve().as_uri())
        exit_on(results.failures)


def _ledger_of_quantized(
    model: str, base: str, revision: str | None, out: Path, as_json: bool, open_page: bool
) -> None:
    from empirics import store
    from empirics.checkpoints.ledger import run as run_ledger
    from empirics.experiments import result

    out.mkdir(parents=True, exist_ok=True)
    with store.Store(out / "measurements.sqlite") as kept, progress() as shown:
        found = run_ledger(model, base, revision=revision, store=kept, progress=shown)
    written = result.write(found, out)
    if as_json:
        print(json.dumps(found.summary, indent=2))
    else:
        console().print(result.printed(found))
        say_files(written)
    if open_page:
        webbrowser.open(written["report"].resolve().as_uri())
    exit_on(found.failures)


@app.command()
def check(
    model: Model = "pocket-llama",
    quantizer: Quantizers = None,
    block_size: BlockSize = 64,
    out: Out = Path("ledger"),
    as_json: AsJson = False,
    revision: Revision = None,
    lean: Annotated[bool, typer.Option("--lean", help="Hold the Lean statements to the Python instead.")] = False,
) -> None:
    """Hold every proved inequality against every weight matrix of MODEL.

    A violated claim that assumes a model of the weights refutes the model for that matrix, not the inequality.

    Example: quantgap check pocket-llama --quantizer nf4 --json
    """
    with clear_errors():
        from dataclasses import asdict

        if lean:
            _check_lean(as_json)
            return
        results = _measure(model, quantizer or list(DEFAULT_QUANTIZERS), block_size, out, revision)
        verdicts = results.verdicts()
        if as_json:
            print(json.dumps([asdict(v) for v in verdicts], indent=2))
            return
        table = Table("claim", "holds", "violated", "inapplicable", "violated on", title=f"Claims on {results.model}")
        for claim in dict.fromkeys(v.claim for v in verdicts):
            of = {kind: [v for v in verdicts if v.claim == claim and v.verdict == kind]
                  for kind in ("holds", "violated", "inapplicable")}  # fmt: skip
            where = ", ".join(f"{v.tensor} ({v.quantizer})" for v in of["violated"])
            table.add_row(claim, *(str(len(found)) for found in of.values()), where)
        console().print(table)


def _check_lean(as_json: bool) -> None:
    try:
        from theory import crosscheck
    except ModuleNotFoundError as missing:
        raise ValueError(str(missing)) from missing
    held = crosscheck.run()
    if as_json:
        failures = [vars(f) for f in held.failures]
        rows = [vars(r) | {"digits": min(r.digits, 999)} for r in held.rows]
        print(json.dumps({"ok": held.ok, "rows": rows, "failures": failures}, indent=2))
    else:
        table = Table("declaration", "kind", "points", "hold", "undecided", "digits", title="Lean statements")
        for row in held.rows:
            digits = f"{row.digits:.0f}" if row.digits < math.inf else ""
            counts = (str(row.points), str(row.proved), str(row.undecided)) if row.points else ("", "", "")
            table.add_row(row.name, row.kind, *counts, digits or row.note)
        console().print(table)
        console().print(held.summary())
        for failure in held.failures:
            ERROR.print(f"[bold red]{failure.kind}[/] {failure.declaration}: ", end="")
            ERROR.print(failure.message, markup=False, highlight=False, soft_wrap=True)
    if not held.ok:
        raise typer.Exit(1)


def _measure(model: str, names: Sequence[str], block_size: int, out: Path, revision: str | None) -> Results:
    from empirics import engine, models, quantizers, store

    chosen = [quantizers.get(name) for name in dict.fromkeys(names)]
    checkpoint = models.open_checkpoint(model, revision)
    if checkpoint.quantized:
        raise ValueError(
            f"{checkpoint.name} is quantized already: `quantgap ledger {model} --base BASE` measures it against the"
            " model that it was quantized from"
        )
    out.mkdir(parents=True, exist_ok=True)
    with store.Store(out / "measurements.sqlite") as kept, progress() as shown:
        results = engine.run(checkpoint, chosen, block_size, kept, shown)
    if not results.measurements:
        reasons = "; ".join(reason for _, reason in results.failures) or "it has no weight matrix"
        raise ValueError(f"nothing in {model} could be measured: {reasons}")
    return results
