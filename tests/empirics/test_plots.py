import math
from xml.etree import ElementTree

import pytest
from matplotlib import _pylab_helpers, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from empirics import plots
from tests.empirics import runs
from theory.ledger import STEPS


def bars(panel: Axes) -> list[Rectangle]:
    return [patch for patch in panel.patches if isinstance(patch, Rectangle)]


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


# The waterfall.


def test_bars_are_the_steps_and_the_totals() -> None:
    parts = runs.ledger()
    (panel,) = plots.waterfall({"nf4": parts}, "title").axes
    drawn = bars(panel)
    expected = [step.bits for step in parts.steps] + [parts.total, 0.5, parts.effective_total]
    assert [bar.get_width() for bar in drawn] == pytest.approx(expected)
    at = 0.0
    for bar, step in zip(drawn, parts.steps, strict=False):
        assert bar.get_x() == pytest.approx(at)
        at += step.bits
    assert [bar.get_x() for bar in drawn[-3:]] == pytest.approx([0, parts.total, 0])
    assert at == pytest.approx(drawn[-3].get_width())


def test_colours_are_the_signs() -> None:
    (panel,) = plots.waterfall({"nf4": runs.ledger()}, "title").axes
    colours = [to_hex(bar.get_facecolor()).upper() for bar in bars(panel)]
    steps = [plots.GAIN if bits < 0 else plots.LOSS for bits in runs.BITS]
    assert colours == [*steps, plots.TOTAL, plots.LOSS, plots.TOTAL]


def test_labels_are_signed_and_run_downwards() -> None:
    figure = plots.waterfall({"nf4": runs.ledger()}, "title")
    (panel,) = figure.axes
    labels = [text.get_text() for text in panel.texts]
    assert labels == [
        "−0.010", "0.000", "+0.250", "+0.400", "−0.150", "+0.050", "−0.020", "+0.010", "0.530", "+0.500", "1.030"
    ]  # fmt: skip
    names = [label.get_text() for label in panel.get_yticklabels()]
    assert names == [*map(plots.LABELS.get, STEPS), plots.NOMINAL, plots.SIDE, plots.EFFECTIVE]
    top, bottom = panel.get_ylim()[::-1]
    assert top < 0 < 10 < bottom


def test_connectors_join_neighbours() -> None:
    (panel,) = plots.waterfall({"nf4": runs.ledger()}, "title").axes
    ends = [bar.get_x() + bar.get_width() for bar in bars(panel)]
    lines = [line for line in panel.lines if line.get_color() == plots.FAINT]
    assert [list(line.get_xdata()) for line in lines] == [pytest.approx([end, end]) for end in ends[:-1]]


def test_panels_share_a_scale_that_holds_every_bar() -> None:
    ledgers = {f"q{i}": runs.ledger(0.05 * i) for i in range(5)}
    panels = plots.waterfall(ledgers, "").axes
    assert [panel.get_title() for panel in panels] == [f"q{i}: 4 bits + 0.5 for scales" for i in range(5)]
    assert len({panel.get_xlim() for panel in panels}) == 1
    low, high = panels[0].get_xlim()
    assert low < -0.01
    assert high > ledgers["q4"].effective_total


def test_waterfall_of_a_negative_total() -> None:
    (panel,) = plots.waterfall({"q": runs.ledger(-0.2)}, "").axes
    assert panel.get_xlim()[0] < runs.ledger(-0.2).total < 0
    assert panel.texts[8].get_text() == "−1.070"


# Predictions.


def test_points_are_the_residuals_with_their_errors() -> None:
    one = runs.measurement()
    (panel,) = plots.predictions([one]).axes
    points = [container for container in panel.containers if container.has_yerr]
    for container, predicted in zip(points, (one.predicted_mse_iid, one.predicted_mse_row), strict=True):
        line, _, (spread,) = container.lines
        (value,) = line.get_ydata()
        assert value == pytest.approx(100 * (one.measured_mse / predicted - 1))
        low, high = spread.get_segments()[0][:, 1]
        assert (high - low) / 2 == pytest.approx(100 * one.mse_error / predicted)
    band = panel.patches[0].get_extents().transformed(panel.transData.inverted())
    assert (band.y0, band.y1) == pytest.approx((-2, 2))


def test_matrices_stand_by_role_then_layer() -> None:
    names = [("a", "down", 1), ("b", "q", 3), ("c", "embedding", None), ("d", "q", 2), ("e", "strange", 0)]
    place, centres, edges = plots.places(names)
    assert sorted(place, key=place.__getitem__) == ["c", "d", "b", "a", "e"]
    assert list(centres) == ["embedding", "q", "down", "strange"]
    assert edges == sorted(edges)
    assert all(low < centre < high for low, centre, high in zip(edges, centres.values(), edges[1:], strict=False))


def test_a_panel_for_each_quantizer_even_where_a_matrix_is_missing() -> None:
    measured = runs.run(("nf4", "fp4", "int4")).measurements[:-1]
    panels = plots.predictions(measured).axes
    assert [panel.get_title(loc="left") for panel in panels] == ["nf4", "fp4", "int4"]
    assert [len(panel.containers[0].lines[0].get_xdata()) for panel in panels] == [2, 2, 1]


# Depth.


def test_lines_run_through_the_layers_in_order_and_average_experts() -> None:
    given = [(1, 1.2), (0, 1.5), (1, 1.4), (2, 1.9)]
    measured = [runs.measurement(f"m{i}", layer=layer, beta=beta) for i, (layer, beta) in enumerate(given)]
    measured.append(runs.measurement("embed", layer=None, role="embedding", beta=9.0))
    figure = plots.depth(measured)
    pooled, within, gap = figure.axes
    (line,) = pooled.lines
    assert list(line.get_xdata()) == [0, 1, 2]
    assert list(line.get_ydata()) == pytest.approx([1.5, 1.3, 1.9])
    assert list(within.lines[0].get_ydata()) == pytest.approx([1.875] * 3)
    assert list(gap.lines[0].get_ydata()) == pytest.approx([runs.ledger().total] * 3)
    assert "embedding" not in texts(figure)


def test_a_gap_panel_for_each_quantizer() -> None:
    titles = [panel.get_title() for panel in plots.depth(runs.run().measurements).axes]
    assert titles == [
        "exponent, all rows pooled", "exponent within rows",
        "gap of nf4 at the nominal rate", "gap of fp4 at the nominal rate",
    ]  # fmt: skip


# All of them.


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="waterfall needs at least one ledger"):
        plots.waterfall({}, "")
    with pytest.raises(ValueError, match="predictions needs at least one measurement"):
        plots.predictions([])
    with pytest.raises(ValueError, match="depth needs at least one measurement of a matrix in a layer"):
        plots.depth([runs.measurement(layer=None)])


def test_hundreds_of_matrices_and_names_that_are_markup() -> None:
    measured = [runs.measurement(f"m{i}" * 50, "$x_$", role="$r_{$", layer=i) for i in range(300)]
    falls = plots.waterfall({"$\\$": runs.ledger()}, "$y^$")
    for figure in (plots.predictions(measured), plots.depth(measured), falls):
        assert plots.png(figure, dpi=40).startswith(b"\x89PNG")


def test_svg_is_well_formed_and_the_same_each_time() -> None:
    drawn = [plots.svg(plots.waterfall({"nf4": runs.ledger()}, "<title>")) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert ElementTree.fromstring(drawn[0]).tag.endswith("svg")


def test_no_global_state() -> None:
    before = dict(rcParams)
    plots.svg(plots.predictions([runs.measurement()]))
    assert dict(rcParams) == before
    assert not _pylab_helpers.Gcf.figs


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(0.25, 3, "+0.250"), (-0.0004, 3, "0.000"), (0.0, 3, "0.000"), (-0.0005001, 3, "−0.001"), (-12.34, 1, "−12.3"),
     (0.04, 0, "0"), (10.0, 0, "+10"), (math.inf, 1, "+inf")],
)  # fmt: skip
def test_signed(value: float, digits: int, text: str) -> None:
    assert plots.signed(value, digits) == text
