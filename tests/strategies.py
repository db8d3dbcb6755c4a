"""What Hypothesis draws: the parameters that `theory` promises to be right for, and small sources."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from theory.sources import GGD, Histogram, ScaleMixture


def betas(low: float = 0.3, high: float = 20.0) -> st.SearchStrategy[float]:
    """Exponents, the corners 1 and 2 and their neighbours often among them."""
    corners = [b for b in (0.5, 1.0, 1.0 + 2**-40, 1.7, 1.999, 2.0, 2.0 + 2**-40, 4.0) if low <= b <= high]
    return st.sampled_from([low, high, *corners]) | st.floats(low, high)


log_concave_betas = betas(1.0)
fisher_betas = betas(0.55)


def sigmas(low: float = 1e-6, high: float = 1e6) -> st.SearchStrategy[float]:
    """Standard deviations, evenly over the decades; 1 often."""
    return st.just(1.0) | st.floats(np.log(low), np.log(high)).map(lambda t: float(np.exp(t)))


def distortions(low: float = 1e-6, high: float = 0.999) -> st.SearchStrategy[float]:
    """Mean squared errors in units of the variance, evenly over the decades."""
    return st.floats(np.log(low), np.log(high)).map(lambda t: float(np.exp(t)))


probabilities = st.floats(1e-12, 1 - 1e-12)
points = st.floats(-30.0, 30.0)  # in units of sigma


def ggds(beta: st.SearchStrategy[float] | None = None) -> st.SearchStrategy[GGD]:
    return st.builds(GGD, betas() if beta is None else beta, sigmas())


@st.composite
def histograms(draw: st.DrawFn, max_size: int = 12) -> Histogram:
    """A few atoms, on a grid fine enough to meet the ends of intervals often, with counts."""
    atoms = draw(st.sets(st.integers(-20, 20), min_size=1, max_size=max_size))
    counts = draw(st.lists(st.integers(1, 1000), min_size=len(atoms), max_size=len(atoms)))
    return Histogram(np.array(sorted(atoms)) / 8, np.array(counts))


@st.composite
def scale_mixtures(draw: st.DrawFn, max_size: int = 4) -> ScaleMixture:
    rows = draw(st.integers(1, max_size))
    scales = draw(st.lists(sigmas(0.01, 100.0), min_size=rows, max_size=rows))
    weights = draw(st.none() | st.lists(st.floats(0.01, 1.0), min_size=rows, max_size=rows))
    return ScaleMixture(GGD(draw(betas(0.5, 8.0))), scales, weights)
