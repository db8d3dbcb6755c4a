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
Texts = Annotated[
    list[str] | None,
    typer.Option("--text", help="LANGUAGE=FILE, a text a paragraph; repeatable. [default: the package's short set]"),
]
REPORT = Path("report")


@run.command()
def weights(
    model: Model = "pocket-llama", out: Out = REPORT, as_json: AsJson = False, revision: Revision = None
) -> None:
    """Measure the law of the weights: exponents, kurtosis, divergence from the Gaussian, spread of rows, outliers.

    Example: quantgap run weights pocket-llama --out report
    """

    def measured(store: Store, shown: Progress) -> Experiment:
        from empirics.experiments.weights import experiment

        return experiment.run(model, revision=revision, store=store, progress=shown)

    _experiment(measured, out, as_json)


@run.command()
def rate_distortion(
    model: Model = "pocket-llama", out: Out = REPORT, as_json: AsJson = False, revision: Revision = None,
    bits: Annotated[str, typer.Option(help="Nominal bits per weight, such as 1-8 or 2,4.")] = "1-8",
    target: Annotated[
        list[float] | None,
        typer.Option(help="Distortion in units of the variance, repeatable. [default: 0.001, 0.01]"),
    ] = None,
    vectors: Annotated[
        str, typer.Option(help="Lattices and k-means on: sample (a matrix of each role), all, none.")
    ] = "sample",
) -> None:  # fmt: skip
    """Try every quantizer at every rate, and hold each against R(D): distortion, effective bits, gap.

    Example: quantgap run rate-distortion pocket-llama --bits 2-4 --target 0.01 --vectors none
    """

    def measured(store: Store, shown: Progress) -> Experiment:
        from empirics.experiments.rate_distortion import experiment

        return experiment.run(
            model, revision=revision, store=store, progress=shown, bits=numbers("bits", bits),
            targets=target or experiment.TARGETS, vectors=vectors,
        )  # fmt: skip

    _experiment(measured, out, as_json)


def numbers(option: str, text: str) -> list[int]:
    """The integers of a list of numbers and ranges.

    >>> numbers("bits", "1-3,8")
    [1, 2, 3, 8]
    """
    found: list[int] = []
    for part in text.split(","):
        ends = part.split("-")
        if len(ends) > 2 or not all(end.strip().isdecimal() for end in ends):
            raise ValueError(f"--{option} {text}: give numbers and ranges, such as 1-8 or 2,4")
        found += range(int(ends[0]), int(ends[-1]) + 1)
    return found


@run.command()
def four_bit(
    model: Model = "pocket-llama",
    quantized: Annotated[
        list[str] | None, typer.Option(help="A checkpoint that was quantized from MODEL, repeatable.")
    ] = None,
    text: Texts = None, out: Out = REPORT, as_json: AsJson = False, revision: Revision = None,
) -> None:  # fmt: skip
    """Compare 4-bit methods: weights, logits and loss, beside the bounds, first order and the notebooks' numbers.

    Example: quantgap run four-bit pocket-llama --quantized ./pocket-llama-gptq --text sw=report.txt
    """

    def measured(store: Store, shown: Progress) -> Experiment:
        from empirics.experiments.four_bit import experiment

        return experiment.run(
            model, revision=revision, texts=text or (), quantized=quantized or (), store=store, progress=shown
        )

    _experiment(measured, out, as_json)


@run.command()
def slope(
    model: Model = "pocket-bloom", out: Out = REPORT, as_json: AsJson = False, revision: Revision = None,
    text: Texts = None,
) -> None:  # fmt: skip
    """Fit how fast the harm falls from 2 bits to 8, and test what it was said to be; bf16, int8, NF4 and FP4 beside.

    Example: quantgap run slope pocket-bloom --text en=english.txt --text sw=swahili.txt
    """

    def measured(store: Store, shown: Progress) -> Experiment:
        from empirics.experiments.slope import experiment

        return experiment.run(model, revision=revision, texts=text or (), store=store, progress=shown)

    _experiment(measured, out, as_json)


@run.command()
def kurtosis(
    model: Model = "pocket-bloom", out: Out = REPORT, as_json: AsJson = False, revision: Revision = None,
    text: Texts = None,
) -> None:  # fmt: skip
    """Correlate the kurtosis that a language meets with what 4 bits do to it; outlier layers, clips by kurtosis.

    Example: quantgap run kurtosis pocket-bloom --text en=english.txt --text sw=swahili.txt
    """

    def measured(store: Store, shown: Progress) -> Experiment:
        from empirics.experiments.kurtosis import experiment

        return experiment.run(model, revision=revision, texts=text or (), store=store, progress=shown)

    _experiment(measured, out, as_json)


@run.command()
def layers(
    model: Model = "pocket-bloom", out: Out = REPORT, as_json: AsJson = False, revision: Revision = None,
    text: Texts = None, quantizer: Annotated[str, typer.Option(help="nf4, fp4, intB ...")] = "nf4",
    block_size: Annotated[int, typer.Option(help="Weights that share a scale.")] = 64,
) -> None:  # fmt: skip
    """Quantize one layer, or one role, at a time, and all but one: which degrade the model, and was it predicted?

    Example: quantgap run layers pocket-bloom --quantizer nf4
    """

    def measured(store: Store, shown: Progress) -> Experiment:
        from empirics.experiments.layers import experiment

        return experiment.run(
            model, revision=revision, texts=text or (), quantizer=quantizer, block_size=block_size, store=store,
            progress=shown,
        )  # fmt: skip

    _experiment(measured, out, as_json)


@run.command()
def clipping(
    model: Model = "pocket-bloom", out: Out = REPORT, as_json: AsJson = False, revision: Revision = None,
    text: Texts = None, bits: Annotated[int, typer.Option(help="Of the integers, one clip a matrix.")] = 4,
) -> None:  # fmt: skip
    """Clip the weights at each language's own best, and at one for all languages: does it help a language?

    Example: quantgap run clipping pocket-bloom --text en=english.txt --text sw=swahili.txt
    """

    def measured(store: Store, shown: Progress) -> Experiment:
        from empirics.experiments.clipping import experiment

        return experiment.run(model, revision=revision, texts=text or (), bits=bits, store=store, progress=shown)

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
