"""Traces of a model on the texts of an experiment, kept so that no experiment estimates them again."""

from __future__ import annotations

from typing import Any

import numpy as np

from empirics.engine import Progress
from empirics.experiments.degradation import Subject
from empirics.store import Store
from empirics.traces import Traces, traces

RELATIVE_ERROR = 0.05
"""Standard error over the probes, in units of a trace."""


def kept_traces(subject: Subject, store: Store | None, progress: Progress) -> Traces:
    """The traces of every matrix of the linear layers (`empirics.traces.traces`), from the store if it has them."""

    def compute() -> dict[str, Any]:
        found = traces(subject.lm, subject.sequences, relative_error=RELATIVE_ERROR, progress=progress)
        return {"names": found.names, "samples": found.samples.tolist()}

    if store is None:
        record = compute()
    else:
        known = subject.key("traces", relative_error=RELATIVE_ERROR)
        record = store.remember(known, compute, subject.provenance)
    return Traces(record["names"], np.array(record["samples"]), subject.sequences, RELATIVE_ERROR)
