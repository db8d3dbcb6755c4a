"""``quantgap run ...``: one experiment on every matrix of a model, and the report of all that a folder holds."""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from empirics.terminal import clear_errors, console, exit_on, progress, say_files

if TYPE_CHECKING:  # torch takes seconds to import: --help does without
    from empirics.engine import Progress
    from empirics.experiments.result import Experiment
    from empirics.store import Store

run = typer.Typer(no_args_is_help=True, help="Run one experiment on every matrix of a model.")

Model = Annotated[str, typer.Argument(help="pocket-llama, pocket-bloom, a local checkpoint folder, or a Hub id.")]
Out = Annotated[Path, typer.Option(help="Folder of the report: OUT/MODEL/EXPERIMENT has the tables and figures.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]
Revision = Annotated[str | None, typer.Option(help="Hub revision: a commit, branch or tag.")]
REPORT = Path("report")


@run.command()
def weights(
    model: Model = "pocket-llama", out: Out = REPORT, as_json: AsJson = False, revision: Revision = None
) -> None:
    """Measure the law of the weights: exponents, kurtosis, divergence from the Gaussian, spread of rows, outliers.

    Example: quantgap run weights pocket-llama --out report
    """

    def measured(store: Store, shown: Progress) -> Experiment:
        from empirics.experiments import weights as experiment

        return experiment.run(model, revision=revision, store=store, progress=shown)

    _experiment(measured, out, as_json)


def report(
    out: Annotated[Path, typer.Argument(help="Folder that `quantgap run ... --out` wrote to.")] = REPORT,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Make OUT/report.html again of the sections in OUT.

    Example: quantgap report report --open
    """
    with clear_errors():
        from empirics.experiments.result import collect

        page = collect(out)
        say_files({"report": page})
        if open_page:
            webbrowser.open(page.resolve().as_uri())


def _experiment(measured: Callable[[Store, Progress], Experiment], out: Path, as_json: bool) -> None:
    """Run, write the files and print; exit status 1 if something could not be measured."""
    with clear_errors():
        from empirics.experiments.result import printed, write
        from empirics.store import Store

        out.mkdir(parents=True, exist_ok=True)
        with Store(out / "measurements.sqlite") as store, progress() as shown:
            found = measured(store, shown)
        written = write(found, out)
        if as_json:
            print(json.dumps(found.json(), indent=2))
        else:
            console().print(printed(found))
            say_files(written)
        exit_on(found.failures)
