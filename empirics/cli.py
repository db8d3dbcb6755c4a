"""The command line, ``quantgap ...``, also as ``python -m empirics ...``: what needs a model."""

from __future__ import annotations

import json
import math
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from empirics.cli_theory import audit, rate

if TYPE_CHECKING:  # torch takes seconds to import: --help does without
    from empirics.engine import Results

DEFAULT_QUANTIZERS = ("nf4", "fp4", "int4")

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="How far is a quantized model from Shannon's limit, and where do the bits go?",
)  # fmt: skip
_error = Console(stderr=True)

Model = Annotated[str, typer.Argument(help="pocket-llama, a local checkpoint folder, or a Hub id.")]
Quantizers = Annotated[
    list[str] | None,
    typer.Option("--quantizer", "-q", help="nf4, fp4, intB; repeatable. [default: nf4, fp4, int4; with --json: nf4]"),
]
BlockSize = Annotated[int, typer.Option(help="Weights that share a scale.")]
Out = Annotated[Path, typer.Option(help="Folder for the page, the figures and the measurements (made if missing).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]
Revision = Annotated[str | None, typer.Option(help="Hub revision: a commit, branch or tag.")]


run = typer.Typer(no_args_is_help=True, help="Run one experiment on every matrix of a model.")
app.add_typer(run, name="run")

app.command()(rate)
app.command()(audit)


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
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser when done.")] = False,
) -> None:
    """Measure every weight matrix of MODEL and say where each fraction of a bit goes.

    Prints a table, and writes OUT/ledger.html with figures. A run that was interrupted goes on where it stopped.

    Example: quantgap ledger pocket-llama --quantizer nf4 --block-size 64 --out ledger
    """
    with _clear_errors():
        from empirics import report

        names = quantizer or (["nf4"] if as_json else list(DEFAULT_QUANTIZERS))
        if as_json and len(names) > 1:
            raise ValueError(f"--json prints one ledger: give one --quantizer, not {', '.join(names)}")
        results = _measure(model, names, block_size, out, revision)
        written = report.write(results, out)
        if as_json:
            print(json.dumps(report.json(results, names[0]), indent=2))
        else:
            console = _console()
            for name in results.quantizers:
                console.print(report.table(results, name))
            console.print(report.summary(results))
            for what, path in written.items():
                console.print(f"{what}: {path}", highlight=False, soft_wrap=True)
        for name, reason in results.failures:
            _error.print(f"[bold red]not measured[/] {reason if name in reason else f'{name}: {reason}'}")
        if open_page:
            webbrowser.open(written["page"].resolve().as_uri())
        if results.failures:
            raise typer.Exit(1)


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
    with _clear_errors():
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
        _console().print(table)


@run.command()
def weights(
    model: Model = "pocket-llama",
    out: Annotated[Path, typer.Option(help="Folder for table and figure (made if missing).")] = Path("weights"),
    as_json: AsJson = False,
    revision: Revision = None,
) -> None:
    """Measure the law of the weights: exponents, kurtosis, divergence from the Gaussian, spread of rows, outliers.

    Prints a table by role, and writes OUT/weights.csv and OUT/depth.png.

    Example: quantgap run weights pocket-llama --out weights
    """
    with _clear_errors():
        from empirics.experiments import weights as experiment
        from empirics.experiments.weights_report import printed

        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%")
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=_error, transient=True) as bar:
            task = bar.add_task(model, total=None)
            table = experiment.run(
                model, out, revision,
                lambda name, done, total: bar.update(task, description=name, completed=done, total=total),
            )  # fmt: skip
        if as_json:
            print(json.dumps(table.json(), indent=2))
        else:
            _console().print(printed(table))
            _console().print(f"table and figure: {out}", highlight=False, soft_wrap=True)
        for name, reason in table.failures:
            _error.print(f"[bold red]not measured[/] {reason if name in reason else f'{name}: {reason}'}")
        if table.failures:
            raise typer.Exit(1)


def _check_lean(as_json: bool) -> None:
    try:
        from theory import crosscheck
    except ModuleNotFoundError as missing:
        raise ValueError(str(missing)) from missing
    report = crosscheck.run()
    if as_json:
        failures = [vars(f) for f in report.failures]
        rows = [vars(r) | {"digits": min(r.digits, 999)} for r in report.rows]
        print(json.dumps({"ok": report.ok, "rows": rows, "failures": failures}, indent=2))
    else:
        table = Table("declaration", "kind", "points", "hold", "undecided", "digits", title="Lean statements")
        for row in report.rows:
            digits = f"{row.digits:.0f}" if row.digits < math.inf else ""
            counts = (str(row.points), str(row.proved), str(row.undecided)) if row.points else ("", "", "")
            table.add_row(row.name, row.kind, *counts, digits or row.note)
        _console().print(table)
        _console().print(report.summary())
        for failure in report.failures:
            _error.print(f"[bold red]{failure.kind}[/] {failure.declaration}: ", end="")
            _error.print(failure.message, markup=False, highlight=False, soft_wrap=True)
    if not report.ok:
        raise typer.Exit(1)


def _measure(model: str, names: Sequence[str], block_size: int, out: Path, revision: str | None) -> Results:
    from empirics import engine, models, quantizers, store

    chosen = [quantizers.get(name) for name in dict.fromkeys(names)]
    checkpoint = models.open_checkpoint(model, revision)
    out.mkdir(parents=True, exist_ok=True)
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%")
    with (
        store.Store(out / "measurements.sqlite") as kept,
        Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=_error, transient=True) as bar,
    ):
        task = bar.add_task(checkpoint.name, total=None)
        results = engine.run(
            checkpoint, chosen, block_size, kept,
            lambda name, done, total: bar.update(task, description=name, completed=done, total=total),
        )  # fmt: skip
    if not results.measurements:
        reasons = "; ".join(reason for _, reason in results.failures) or "it has no weight matrix"
        raise ValueError(f"nothing in {model} could be measured: {reasons}")
    return results


def _console() -> Console:
    """Standard output, wide enough for the tables where there is no terminal to fit."""
    return Console() if Console().is_terminal else Console(width=120)


@contextmanager
def _clear_errors() -> Iterator[None]:
    """What the user can mend is one line on standard error, not a traceback."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        _error.print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        _error.print("interrupted; the same command goes on where it stopped")
        raise typer.Exit(130) from None
