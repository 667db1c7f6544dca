"""Charts of the page as figures to take away."""

import io
from pathlib import Path

import numpy as np
import pytest

from resnet_space.plots import figures
from resnet_space.plots.evaluation import confusion_chart
from resnet_space.plots.export import SIZES, exported_figure
from resnet_space.plots.residuals.growth import growth_chart
from resnet_space.plots.residuals.norms import norms_chart, ratio_chart
from resnet_space.plots.residuals.profiles import (
    compare_chart,
    early_chart,
    gradient_chart,
    lesion_chart,
    responses_chart,
    several_chart,
)
from resnet_space.plots.training import loss_chart
from tests.plots.test_residual_charts import BLOCKS, IMAGES, NAMES


@pytest.mark.parametrize("name", SIZES)
def test_every_chart_is_drawn_as_a_figure_with_its_data_and_caption(name: str) -> None:
    size = SIZES[name]
    norms, ratio = norms_chart(BLOCKS, IMAGES), ratio_chart(BLOCKS, IMAGES)
    caption = "a run on 3 images of $nasty_$ <b>. " + 20 * "F(x) is what the branch gives. "
    figure = exported_figure([norms, ratio], caption, size)
    scatter, boxes = figure.axes
    assert (scatter.get_xscale(), scatter.get_yscale()) == ("log", "log")
    np.testing.assert_allclose(np.asarray(scatter.collections[0].get_offsets()), [[4, 1], [5, 10], [2, 2]])
    medians = [line for line in boxes.lines if line.get_linewidth() == 1.6 * size.line]
    assert [line.get_ydata()[0] for line in medians] == [1.0, 0.75]
    (text,) = figure.subfigs[1].texts
    assert " ".join(text.get_text().split()) == " ".join(caption.split())
    others = [
        responses_chart({"a": [("conv1", 0.5), ("conv2", 2.0)], "b": [("conv1", 1.0)]}, ordered=True),
        lesion_chart(NAMES, [0, 1], [0.1, 0.7], 0.75),
        several_chart("several", [1, 3], [[0.6, 0.4], [0.2, 0.1]], 0.75, "blocks"),
        early_chart(NAMES, {"right": [0.5, 0.75]}),
        gradient_chart(NAMES, [0, 1], {"with": [[1.0, 2.0], [2.0, 3.0]]}),
        compare_chart({"a": (BLOCKS, [(0.1, 0.2, 0.4), (0.3, 0.5, 0.6)])}),
        growth_chart(NAMES, [0, 1], [[0.1, 0.2], [0.3, 0.3]]),
        confusion_chart([[3, 1], [0, 4]], ["a", "$b$"]),
    ]
    drawn = exported_figure(others, "", size)
    assert [bar.get_height() for bar in drawn.axes[1].patches] == [0.1, 0.7]
    assert drawn.axes[1].yaxis.get_major_formatter().format_pct(0.5, 1) == "50%"
    assert [text.get_text() for text in drawn.axes[-1].texts] == ["3", "1", "", "4"]
    figures.save_png(drawn, io.BytesIO())


def test_a_slide_is_16_to_9_in_large_type_and_a_paper_has_the_width_of_a_column(tmp_path: Path) -> None:
    chart = ratio_chart(BLOCKS, IMAGES)
    slide, paper = (exported_figure([chart], "a caption", SIZES[name]) for name in ("slide", "paper"))
    width, height = slide.get_size_inches()
    assert width / height == pytest.approx(16 / 9)
    assert paper.get_size_inches()[0] == 3.5
    assert slide.axes[0].xaxis.label.get_size() >= 16
    figures.save_svg(paper, tmp_path / "paper.svg")
    svg = (tmp_path / "paper.svg").read_text(encoding="utf-8")
    assert "a caption</text>" in svg  # text as text, not as outlines


def test_the_legend_of_an_exported_figure_does_not_cover_its_data() -> None:
    metrics = {f"a run with a rather long name {i}": [{"event": "step", "step": 1, "loss": 1.0}] for i in range(5)}
    for size in SIZES.values():
        figure = exported_figure([loss_chart(metrics)], "a caption", size)
        figure.draw_without_rendering()
        (legend,) = figure.subfigs[0].subfigs[0].legends
        assert not legend.get_window_extent().overlaps(figure.axes[0].get_window_extent())
        assert figure.bbox.containsx(legend.get_window_extent().x1)
