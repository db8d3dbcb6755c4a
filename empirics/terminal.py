"""What the commands share at a terminal: the console, the progress bar, errors in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

ERROR = Console(stderr=True)


def console() -> Console:
    """Standard output, wide enough for the tables where there is no terminal to fit."""
    return Console() if Console().is_terminal else Console(width=120)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error, gone when done; what it gives is an `empirics.engine.Progress`."""
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%")
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=ERROR, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total)


def say_files(written: Mapping[str, Path]) -> None:
    """Where each file is."""
    for what, path in written.items():
        console().print(f"{what}: {path}", highlight=False, soft_wrap=True)


def exit_on(failures: Sequence[tuple[str, str]]) -> None:
    """Say what could not be measured, if anything, and end with status 1."""
    for name, reason in failures:
        ERROR.print(f"[bold red]not measured[/] {reason if name in reason else f'{name}: {reason}'}")
    if failures:
        raise typer.Exit(1)


@contextmanager
def clear_errors() -> Iterator[None]:
    """What the user can mend is one line on standard error, not a traceback."""
    try:
        yield
    except (ValueError, TypeError, OSError, MemoryError) as error:
        ERROR.print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        ERROR.print("interrupted; the same command goes on where it stopped")
        raise typer.Exit(130) from None
