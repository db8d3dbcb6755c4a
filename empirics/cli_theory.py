"""The commands that need no model: ``quantgap rate`` and ``quantgap audit``."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


def rate(
    distortion: Annotated[float, typer.Argument(help="Mean squared error, in units of the variance.")],
    beta: Annotated[float, typer.Option(help="Exponent of the generalized Gaussian: 2 Gaussian, 1 Laplace.")] = 2.0,
    tol: Annotated[float, typer.Option(help="Width of the bracket, bits.")] = 1e-6,
    certify: Annotated[bool, typer.Option("--certify", help="Prove both ends in ball arithmetic.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bracket the rate-distortion function R(D) of a generalized Gaussian, in bits, beside its bounds.

    Example: quantgap rate 0.01 --beta 1.7 --certify
    """
    from theory import rate_distortion, shannon
    from theory.sources import GGD

    try:
        source = GGD(beta)
        r = rate_distortion.solve(source, distortion, tol=tol, certify=certify)
        found = {
            "beta": beta, "D": distortion, "lower": r.lower, "upper": r.upper, "certified": r.certified,
            "status": r.status,
        }  # fmt: skip
        if distortion < 1:
            found["shannon_lower_bound"] = float(shannon.lower_bound(source, distortion))
            found["gaussian"] = float(shannon.gaussian_rate(distortion))
    except (ValueError, TypeError) as wrong:
        Console(stderr=True).print(f"[bold red]error[/] {wrong}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from wrong
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        how = "proved in ball arithmetic" if r.certified else "certified up to float64 quadrature"
        print(f"R({distortion:g}) is between {r.lower:.9f} and {r.upper:.9f} bits ({how}; {r.status})")
        if distortion < 1:
            print(f"Shannon lower bound {found['shannon_lower_bound']:.9f}, Gaussian {found['gaussian']:.9f}")
    if r.status != "converged":
        raise typer.Exit(1)


def audit(as_json: AsJson = False) -> None:
    """Print what the notebooks reported beside what is true.

    Example: quantgap audit --json
    """
    from theory import audit as table

    if as_json:
        rows = [vars(row) | {"values": [value._asdict() for value in row.values]} for row in table.rows()]
        print(json.dumps(rows, indent=2))
    else:
        Console().print(Markdown(table.markdown()))
