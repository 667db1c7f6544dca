from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from resnet_space import figures, palette
from resnet_space.figures import OVERLAY_SIZE, channel_gates, learning_curves, overlay, save_png
from resnet_space.runs import Metric

METRICS: list[Metric] = [
    {"event": "start", "epochs": 3, "steps_per_epoch": 2},
    {"event": "step", "step": 1, "loss": 2.3},
    {"event": "step", "step": 2, "loss": 1.9},
    {"event": "epoch", "epoch": 1, "train_accuracy": 0.25, "validation_accuracy": 0.5},
    {"event": "step", "step": 3, "loss": 1.2},
    {"event": "step", "step": 4, "loss": 1.3},
    {"event": "epoch", "epoch": 2, "train_accuracy": 0.75, "validation_accuracy": 0.625},
    {"event": "test", "split": "test", "accuracy": 0.6},
]


def viridis(position: float) -> tuple[float, float, float]:
    """0..255 each"""
    red, green, blue, _ = colormaps["viridis"](position)
    return 255 * red, 255 * green, 255 * blue


def pixels(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image, dtype=np.float64)


def gate(*rows: list[float]) -> NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


# The overlay


@pytest.mark.parametrize("size", [(32, 32), (256, 256), (500, 300)])
@pytest.mark.parametrize("resolution", [(1, 1), (8, 8), (7, 4)])
def test_the_overlay_has_one_size_whatever_the_image_and_the_gates_resolution(
    size: tuple[int, int], resolution: tuple[int, int]
) -> None:
    result = overlay(Image.new("RGB", size, "teal"), np.full(resolution, 0.5, dtype=np.float32), 0, 1)
    assert result.size == (OVERLAY_SIZE, OVERLAY_SIZE)
    assert result.mode == "RGB"


def test_a_low_gate_is_the_dark_end_of_viridis_and_a_high_one_the_bright_end_where_they_are() -> None:
    # Upper left low, upper right high, lower left in the middle, lower right a quarter.
    heat = pixels(overlay(Image.new("RGB", (32, 32)), gate([0.2, 0.6], [0.4, 0.3]), 0.2, 0.6, opacity=1))
    quarter = OVERLAY_SIZE // 8
    places = {(quarter, quarter): 0.0, (quarter, -quarter): 1.0, (-quarter, quarter): 0.5, (-quarter, -quarter): 0.25}
    for (row, column), position in places.items():
        assert heat[row, column] == pytest.approx(viridis(position), abs=3)
    assert heat[quarter, -quarter].sum() > 2 * heat[quarter, quarter].sum()


def test_between_the_gates_places_the_colours_change_smoothly() -> None:
    heat = pixels(overlay(Image.new("RGB", (32, 32)), gate([0.0, 1.0]), 0, 1, opacity=1))
    assert len(np.unique(heat[128], axis=0)) > 50
    assert np.abs(np.diff(heat[128], axis=0)).max() < 16


def test_gates_beyond_the_range_take_the_colours_of_its_ends() -> None:
    heat = pixels(overlay(Image.new("RGB", (32, 32)), gate([0.0, 1.0]), 0.4, 0.6, opacity=1))
    assert heat[128, 0] == pytest.approx(viridis(0.0), abs=1)
    assert heat[128, -1] == pytest.approx(viridis(1.0), abs=1)


def test_a_gate_that_is_the_same_everywhere_has_one_colour() -> None:
    heat = overlay(Image.new("RGB", (32, 32)), np.full((8, 8), 0.5, dtype=np.float32), 0.5, 0.5, opacity=1)
    assert len(heat.getcolors() or []) == 1


def test_below_the_colours_is_the_image_in_grey() -> None:
    image = Image.new("RGB", (64, 64), (250, 10, 10))
    image.paste((10, 10, 250), (0, 32, 64, 64))
    flat = gate([0.3])
    below = pixels(overlay(image, flat, 0, 1, opacity=0))
    assert (below[..., 0] == below[..., 1]).all()
    assert (below[..., 0] == below[..., 2]).all()
    assert below[64, 64, 0] == pytest.approx(0.299 * 250 + 0.587 * 10 + 0.114 * 10, abs=2)
    assert below[192, 64, 0] == pytest.approx(0.299 * 10 + 0.587 * 10 + 0.114 * 250, abs=2)
    mixed = pixels(overlay(image, flat, 0, 1, opacity=0.6))
    assert mixed[64, 64] == pytest.approx(0.4 * below[64, 64] + 0.6 * np.array(viridis(0.3)), abs=3)


def test_the_overlay_leaves_the_image_as_it_was() -> None:
    image = Image.new("RGB", (32, 32), "teal")
    overlay(image, gate([0.0, 1.0]), 0, 1)
    assert image.getcolors() == [(32 * 32, (0, 128, 128))]


# The channels


def bars(figure: Figure) -> list[Rectangle]:
    (axes,) = figure.axes
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize("neutral", [0.5, 1.0])
def test_every_channel_has_a_bar_from_the_neutral_value_to_its_gate(neutral: float) -> None:
    gates = np.array([0.9, 0.5, 0.1, 0.45], dtype=np.float32)
    drawn = bars(channel_gates(gates, neutral))
    assert len(drawn) == 4
    for i, (bar, value) in enumerate(zip(drawn, gates, strict=True)):
        assert bar.get_x() + bar.get_width() / 2 == pytest.approx(i)
        assert sorted([bar.get_y(), bar.get_y() + bar.get_height()]) == pytest.approx(sorted([neutral, value]))


def test_channels_turned_up_and_down_have_different_colours() -> None:
    drawn = bars(channel_gates(np.array([0.9, 0.1, 0.51, 0.49], dtype=np.float32), 0.5))
    up, down = palette.TURNED_UP.lower(), palette.TURNED_DOWN.lower()
    assert [to_hex(bar.get_facecolor()) for bar in drawn] == [up, down, up, down]
    assert up != down


# The learning curves


def test_the_learning_curves_have_the_numbers_of_the_metrics() -> None:
    loss, accuracy = learning_curves(METRICS).axes
    (curve,) = loss.lines
    assert list(curve.get_xdata()) == [1, 2, 3, 4]
    assert list(curve.get_ydata()) == [2.3, 1.9, 1.2, 1.3]
    by_label = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in accuracy.lines}
    assert by_label == {"validation": ([1, 2], [50, 62.5]), "training": ([1, 2], [25, 75])}
    assert len({to_hex(line.get_color()) for line in accuracy.lines}) == 2
    legend = accuracy.get_legend()
    assert legend is not None
    assert {text.get_text() for text in legend.get_texts()} == {"validation", "training"}


@pytest.mark.parametrize("metrics", [METRICS, METRICS[:2], []], ids=["whole", "stopped in its first epoch", "none"])
def test_figures_are_written_as_png(tmp_path: Path, metrics: list[Metric]) -> None:
    path = tmp_path / ".curves.png.7.tmp"  # the kind is not taken from the name
    figure = learning_curves(metrics)
    save_png(figure, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        width, height = figure.get_size_inches()
        assert image.size == (round(150 * width), round(150 * height))
        values = pixels(image.convert("RGB"))
    assert (values[0, 0] == 255).all()  # on white
    assert (values < 128).any()


def test_figures_are_independent_of_pyplot() -> None:
    import matplotlib.pyplot as plt

    channel_gates(np.array([0.9, 0.1], dtype=np.float32), 0.5)
    learning_curves(METRICS)
    assert plt.get_fignums() == []


def test_a_confusion_matrix_is_drawn_whatever_its_classes_are_called() -> None:
    names = ["$x^2$", "<img src=x>", "猫", "a name that is much too long for the margin of a figure"]
    assert figures.png(figures.confusion(np.eye(4, dtype=np.int64), names)).startswith(b"\x89PNG")
    drawn = [
        label.get_text() for label in figures.confusion(np.eye(4, dtype=np.int64), names).axes[0].get_yticklabels()
    ]
    assert drawn[:3] == names[:3]
    assert len(drawn[3]) == 24


def test_a_residual_profile_has_each_blocks_median_and_quartiles() -> None:
    quartiles = [(0.1, 0.2, 0.4), (1.0, 2.0, 3.0), (0.5, 0.6, 0.7)]
    figure = figures.residual_profile(["a", "b", "c"], [True, False, True], quartiles, 64)
    kept, changed = figure.axes[0].containers
    assert kept[0].get_xydata().tolist() == [[1, 0.2], [3, 0.6]]
    assert changed[0].get_xydata().tolist() == [[2, 2.0]]
    (bars,) = changed[2]
    assert bars.get_segments()[0][:, 1].tolist() == [1.0, 3.0]
    assert "64 test images" in figure.axes[0].get_xlabel()
