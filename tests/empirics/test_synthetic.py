"""Matrices of a known law: the truths against quadrature, and the coverage of every standard error."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, special, stats

from empirics import fit, measure
from empirics.experiments.weights import experiment as weights
from empirics.histogram import exact
from empirics.influence import standard_errors
from empirics.measure import Matrix
from empirics.models import open_checkpoint
from empirics.quantizers import get
from empirics.scalar_quantizers import clipped_3_sigma, clipped_optimally, lloyd_max_levels
from empirics.synthetic import Law, checkpoint
from empirics.tensors import TensorInfo, catalogue, load
from tests.tolerances import STANDARD_ERRORS, SUM, close
from theory import codebooks, ggd, scalar
from theory.sources import Histogram

REPLICATIONS = 120
DEVIATION = math.sqrt(REPLICATIONS * 0.95 * 0.05)
# 114 intervals cover on average; 4 binomial deviations fewer, which a right one misses once in 1e4 tries.
COVERED = 0.95 * REPLICATIONS - 4 * DEVIATION
ALIKE, ROWS, COLUMNS = Law(beta=1.6), Law(beta=1.8, rows=0.2), Law(beta=1.8, columns=0.2)
OUTLIERS = Law(beta=2.0, outliers=0.01, size=3.0)
BOTH = Law(beta=1.5, rows=0.4, columns=0.3, outliers=0.02, size=4.0)
# Adaptive quadrature asked for 1e-10, over a density of many scales.
QUADRATURE = 1e-8
# A bounded search ends where the likelihood is flat to rounding: the root of 1e-16.
FLAT = 1e-7


def info(shape: tuple[int, ...]) -> TensorInfo:
    return TensorInfo("model.layers.0.mlp.up_proj.weight", "up", shape, "BF16", Path("x"), 0, 0)


class Sample:
    """What is measured of many matrices of one law: their weights, and NF4 in blocks of 64."""

    def __init__(self, law: Law, shape: tuple[int, int]) -> None:
        self.law, self.shape, made = law, shape, []

        def kept(*given):
            made.append(Matrix(*given))
            return made[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(weights, "Matrix", kept)
            drawn = (law.draw(*shape, seed, torch.bfloat16) for seed in range(REPLICATIONS))
            self.records = [weights.measure(tensor, info(shape)).record() for tensor in drawn]
            # Predictions and the ledger are no estimates, and take their time.
            patch.setattr(measure, "gap_ledger", lambda *given, **options: None)
            patch.setattr(measure, "predicted", lambda *given: 0.0)
            patch.setattr(Matrix, "scalar", lambda *given: (0.0, 0.0, 0.0))
            for record, matrix in zip(self.records, made, strict=True):
                found = matrix.measure(get("nf4"), 64)
                record |= {"mse": found.measured_mse, "mse_error": found.mse_error}
                record |= {"absmax": found.absmax_mean, "absmax_error": found.absmax_mean_error}


def assert_covers(found: list[float], errors: list[float], truth: float) -> None:
    found, errors = np.array(found), np.array(errors)
    covered = int((np.abs(found - truth) < 1.96 * errors).sum())
    said = f"{covered} cover {truth:.5g}: mean {found.mean():.5g}, deviation {found.std():.3g}, {errors.mean():.3g}"
    assert covered >= COVERED, said
    # Intervals may also be too wide. That many replications know a deviation to 7 %.
    assert np.sqrt(np.mean(errors**2)) < (1 + 4 * 0.07) * found.std(), said


@pytest.fixture(scope="module")
def alike() -> Sample:
    return Sample(ALIKE, (128, 128))


@pytest.fixture(scope="module")
def rows() -> Sample:
    return Sample(ROWS, (256, 64))


@pytest.fixture(scope="module")
def columns() -> Sample:
    return Sample(COLUMNS, (64, 256))


def truths(law: Law) -> dict[str, float]:
    known = {
        "beta": law.marginal_beta, "kurtosis": law.kurtosis, "kl_ggd": float(ggd.kl_to_gaussian(law.marginal_beta)),
        "kl_binned": law.divergence, "row_spread": law.row_spread, "column_spread": law.column_spread,
    }  # fmt: skip
    if not law.columns:
        blocks = {"mse": law.block_mse(codebooks.NF4, 64), "absmax": law.absmax_mean(64)}
        known |= blocks | {"beta_row": law.row_beta, "beta_block": law.row_beta}
    return known


@pytest.mark.parametrize(
    ("sample", "name"),
    [(s, name) for s, law in (("alike", ALIKE), ("rows", ROWS), ("columns", COLUMNS)) for name in truths(law)],
)
def test_intervals_cover(sample, name, request):
    """Of independent weights, of rows and of columns with scales of their own."""
    sample = request.getfixturevalue(sample)
    found, errors = (np.array([r[key] for r in sample.records]) for key in (name, f"{name}_error"))
    if name.endswith("spread"):
        found = found - [r[f"{name}_noise"] for r in sample.records]
        # The next term of -ln(1 + x), x of the variance v that noise has, for lines as short as these: 3 v**2/4 nats.
        width = sample.shape[name == "row_spread"]
        found -= 3 / 8 * ((sample.records[0]["kurtosis"] - 1) / width) ** 2 / math.log(2)
    assert_covers(found, errors, truths(sample.law)[name])


def test_intervals_of_independent_weights_would_not_cover_rows():
    """The tests above can fail: these are the errors of a model in which weights do not share scales."""
    law, draws = Law(beta=1.8, rows=0.3), 60
    alone = [fit.marginal(exact(law.draw(64, 256, seed, torch.bfloat16))) for seed in range(draws)]
    inside = sum(abs(found.beta - law.marginal_beta) < 1.96 * found.standard_error for found in alone)
    assert inside < 0.95 * draws - 4 * math.sqrt(draws * 0.95 * 0.05)


def test_within_rows_covers_given_the_columns():
    shape, scales = (64, 256), np.exp(0.3 * np.random.default_rng(0).standard_normal(256))
    law = Law(beta=1.8)
    fits = [fit.within_rows(law.draw(*shape, seed) * torch.from_numpy(scales)) for seed in range(REPLICATIONS)]
    truth = nearest_exponent(lambda k: np.mean(scales**k), 1.8)
    assert_covers([f.beta for f in fits], [f.standard_error for f in fits], truth)


def test_outliers_are_covered():
    """There are 655 of them: their share, the exponent and a kurtosis to which they give most."""
    found: dict[str, list[tuple[float, float]]] = {"beta": [], "beyond": [], "kurtosis": []}
    for seed in range(REPLICATIONS):
        tensor = OUTLIERS.draw(256, 256, seed, torch.bfloat16)
        atoms = exact(tensor)
        one = fit.marginal(atoms)
        sigma, kurtosis = math.sqrt(atoms.variance), atoms.abs_moment(4) / atoms.second_moment**2
        far = float(atoms.probabilities[np.abs(atoms.values) > 4 * sigma].sum())

        def fourth(x, sigma=sigma, kurtosis=kurtosis):
            return (x / sigma) ** 4 - 2 * kurtosis * (x / sigma) ** 2 + kurtosis

        def beyond(x, sigma=sigma, far=far):
            return (x.abs() > 4 * sigma).double() - far

        errors = standard_errors(tensor, one.influence, beyond, fourth)
        for name, value, error in zip(found, (one.beta, far, kurtosis), errors, strict=True):
            found[name].append((value, error))
    known = {"beta": OUTLIERS.marginal_beta, "beyond": OUTLIERS.beyond(4), "kurtosis": OUTLIERS.kurtosis}
    for name, truth in known.items():
        assert_covers(*zip(*found[name], strict=True), truth)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_clustered_errors_are_those_of_loops(monkeypatch, dtype):
    monkeypatch.setattr("empirics.influence._CHUNK", 100)
    x = Law(rows=0.5).draw(13, 37, 0, dtype)
    influence = lambda x: x**2 + 0.01 * x - 4e-4  # noqa: E731
    f = influence(x.double()).numpy()
    r, c = f.sum(1), f.sum(0)
    variance = 13 / 12 * np.sum((r - r.mean()) ** 2) + 37 / 36 * np.sum((c - c.mean()) ** 2) - np.sum(f**2)
    assert standard_errors(x, influence, torch.zeros_like) == [close(math.sqrt(variance) / f.size, rel=SUM), 0.0]


def test_where_nothing_is_left_the_larger_stands():
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    assert standard_errors(checks, lambda x: x) == [0.0]
    shifted = checks + torch.tensor([[-0.1], [0.1]])
    assert standard_errors(shifted, lambda x: x) == [close(0.1, rel=1e-6)]  # 0.1 is a float32


def test_the_exponents_influence_is_its_derivative():
    """Of a little more probability at an atom."""
    atoms = exact(ALIKE.draw(60, 50, 0, torch.bfloat16))
    whole = fit.marginal(atoms)
    for i in np.linspace(0, len(atoms.values) - 1, 9).astype(int):
        counts = atoms.counts * 1.0
        counts[i] += (more := 1e-4 * counts.sum())
        moved = (fit.marginal(Histogram(atoms.values, counts)).beta - whole.beta) / (more / counts.sum())
        influence = float(whole.influence(torch.from_numpy(atoms.values[[i]])))
        # The second derivative is of the order of the square of the first; Newton's method stops at 1e-8.
        assert moved == close(influence, abs=1e-3 + 2.5e-4 * influence**2)


def nearest_exponent(scale_moment, beta: float) -> float:
    """By scipy's gennorm: the root of the derivative of the expected log-likelihood, scale profiled out."""

    def minus_likelihood(b: float) -> float:
        moment = scale_moment(b) * 2 * integrate.quad(lambda x: x**b * stats.gennorm.pdf(x, beta), 0, np.inf)[0]
        return np.log(b * moment) / b + 1 / b + special.gammaln(1 / b) - np.log(b / 2)

    found = optimize.minimize_scalar(minus_likelihood, bounds=(0.3, 4), method="bounded", options={"xatol": 1e-9})
    return float(found.x)


def test_truths_are_those_of_quadrature():
    """Log-normal moments in closed form; the density by scipy's, integrated over the logarithm of the scale."""
    tau = math.hypot(BOTH.rows, BOTH.columns)

    def scale_moment(k: float, spread: float = tau) -> float:
        return math.exp((k * spread) ** 2 / 2) * (1 - BOTH.outliers + BOTH.outliers * BOTH.size**k)

    assert BOTH.marginal_beta == close(nearest_exponent(scale_moment, BOTH.beta), rel=FLAT)
    assert BOTH.row_beta == close(nearest_exponent(lambda k: scale_moment(k, BOTH.columns), BOTH.beta), rel=FLAT)
    within = float(stats.gennorm(BOTH.beta).stats("k")) + 3
    assert BOTH.kurtosis == close(within * scale_moment(4) / scale_moment(2) ** 2, rel=QUADRATURE)
    assert BOTH.marginal.variance == close(BOTH.sigma**2 * scale_moment(2), rel=QUADRATURE)
    nodes = np.linspace(-8, 8, 2001)
    chances = stats.norm.pdf(nodes) * (nodes[1] - nodes[0])
    unit = stats.gennorm(BOTH.beta, scale=1 / stats.gennorm(BOTH.beta).std())

    def mixed(f):  # the trapezoidal rule converges geometrically here
        return lambda x: sum(
            share * chances @ f(x / (size * np.exp(tau * nodes)), size * np.exp(tau * nodes))
            for share, size in ((1 - BOTH.outliers, 1.0), (BOTH.outliers, BOTH.size))
        )

    density, tail = mixed(lambda x, s: unit.pdf(x) / s), mixed(lambda x, s: unit.sf(x))
    gaussian = stats.norm(0, math.sqrt(scale_moment(2)))

    def integrand(x: float) -> float:
        return density(x) * (math.log2(density(x)) - gaussian.logpdf(x) / math.log(2))

    divergence = 2 * integrate.quad(integrand, 0, 300, points=[0.1, 1, 10, 50], limit=400, epsrel=1e-9)[0]
    assert BOTH.divergence == close(divergence, rel=1e-6)  # beyond 300 there are 1e-9 bits
    assert BOTH.beyond(6) == close(2 * tail(6 * math.sqrt(scale_moment(2))), rel=1e-7)  # 48 nodes


@pytest.mark.parametrize("law", [ALIKE, OUTLIERS])
def test_scalar_quantizers_have_the_errors_of_the_law(law):
    """On average over matrices; levels that are fitted to the weights gain 2 levels/n by it."""
    bits, draws, size = 3, 12, 128
    unit, levels = law.marginal.variance, 2**bits
    top = 3 * math.sqrt(unit)
    expected = {
        clipped_3_sigma: scalar.mse(np.linspace(-top, top, levels), law.marginal),
        clipped_optimally: scalar.uniform(law.marginal, levels).mse,
        lloyd_max_levels: scalar.lloyd_max(law.marginal, levels).mse,
    }
    found = []
    for seed in range(draws):
        atoms = exact(law.draw(size, size, seed, torch.bfloat16))
        found.append([quantizer(atoms, bits).mse / atoms.variance for quantizer in expected])
    for of_draws, mse in zip(np.transpose(found), expected.values(), strict=True):
        error = of_draws.std(ddof=1) / math.sqrt(draws)
        assert abs(of_draws.mean() - mse / unit) < STANDARD_ERRORS * error + 2 * levels / size**2 * mse / unit


def test_a_seed_is_a_matrix_in_every_dtype():
    one = BOTH.draw(20, 30, 5, torch.float64)
    assert torch.equal(BOTH.draw(20, 30, 5, torch.bfloat16), one.bfloat16())
    assert torch.equal(BOTH.draw(20, 30, 5, torch.float64), one)
    assert not torch.equal(BOTH.draw(20, 30, 6, torch.float64), one)


@pytest.mark.parametrize(
    "given", [{"beta": 0.0}, {"sigma": -1.0}, {"rows": -0.1}, {"columns": math.nan}, {"outliers": 1.0}, {"size": 0.0}]
)
def test_a_law_out_of_its_domain_is_refused(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        Law(**given)


def test_blocks_of_different_columns_have_no_law():
    for ask in (lambda law: law.block_mse(codebooks.NF4, 64), lambda law: law.absmax_mean(64)):
        with pytest.raises(ValueError, match="columns have scales of their own"):
            ask(COLUMNS)


def test_a_checkpoint_holds_what_its_laws_draw(tmp_path):
    names = ("model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight")
    given = dict(zip(names, ((ROWS, (8, 64)), (OUTLIERS, (4, 32))), strict=True))
    folder = checkpoint(tmp_path / "made" / "here", given, seed=3, dtype=torch.bfloat16)
    found = {tensor.name: tensor for tensor in catalogue(open_checkpoint(folder))}
    assert json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"].keys() == set(names)
    assert found[names[0]].role == "q"
    for i, (name, (law, shape)) in enumerate(given.items()):
        assert torch.equal(load(found[name]), law.draw(*shape, 3 + i, torch.bfloat16))
