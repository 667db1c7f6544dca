import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from PIL import Image

from resnet_space.plots import figures
from resnet_space.plots.figures import learning_curves, save_png
from resnet_space.plots.pictures import SHARP, SMOOTH, map_png
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


# Maps


def heat(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float64]:
    picture = Image.open(io.BytesIO(map_png(values, low, high, smooth=True)))
    assert picture.size == (SMOOTH, SMOOTH)
    return np.asarray(picture.convert("RGB"), dtype=np.float64)


def test_a_low_value_is_the_dark_end_of_viridis_and_a_high_one_the_bright_end_where_they_are() -> None:
    # Upper left low, upper right high, lower left in the middle, lower right a quarter.
    drawn = heat(gate([0.2, 0.6], [0.4, 0.3]), 0.2, 0.6)
    edge = SMOOTH // 8
    places = {(edge, edge): 0.0, (edge, -edge): 1.0, (-edge, edge): 0.5, (-edge, -edge): 0.25}
    for (row, column), position in places.items():
        assert drawn[row, column] == pytest.approx(viridis(position), abs=3)
    assert drawn[edge, -edge].sum() > 2 * drawn[edge, edge].sum()


def test_between_two_places_the_values_are_mixed_and_not_their_colours() -> None:
    middle = heat(gate([0.0, 1.0]), 0, 1)[SMOOTH // 2]
    assert len(np.unique(middle, axis=0)) > 50
    halfway = middle[SMOOTH // 2 - 1 : SMOOTH // 2 + 1].mean(0)
    assert halfway == pytest.approx(viridis(0.5), abs=3)
    assert halfway != pytest.approx((np.array(viridis(0)) + np.array(viridis(1))) / 2, abs=30)


def test_values_beyond_the_scale_take_the_colours_of_its_ends_and_a_flat_map_has_one_colour() -> None:
    drawn = heat(gate([0.0, 1.0]), 0.4, 0.6)
    assert drawn[0, 0] == pytest.approx(viridis(0.0), abs=1)
    assert drawn[0, -1] == pytest.approx(viridis(1.0), abs=1)
    flat = heat(np.full((7, 4), 0.5, dtype=np.float32), 0.5, 0.5)
    assert (flat == flat[0, 0]).all()


def test_a_map_that_is_not_smooth_shows_its_positions() -> None:
    picture = Image.open(io.BytesIO(map_png(gate([0.0, 1.0]), 0, 1)))
    assert picture.size == (SHARP, SHARP)
    drawn = np.asarray(picture.convert("RGB"), dtype=np.float64)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 2
    assert drawn[0, SHARP // 2 - 1] == pytest.approx(viridis(0.0), abs=1)
    assert drawn[0, SHARP // 2] == pytest.approx(viridis(1.0), abs=1)


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

    map_png(gate([0.9, 0.1]), 0, 1)
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
