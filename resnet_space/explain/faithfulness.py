"""Is a heatmap faithful to the model? Three measures for one image and class, compared with uninformative baselines.

- Insertion (Petsiuk et al. 2018, arXiv:1806.07421): the image starts blurred, and its pixels are restored in the map's
  order; the mean probability of the class along the way. Higher is better.
- Deletion (the same paper): pixels are replaced by the mean colour in the map's order. Lower is better.
- ROAD (Rong et al. 2022, arXiv:2202.00449): the most important and the least important pixels are imputed from their
  neighbours; half of the difference in probability between the two. Higher is better.

A number alone means nothing, as it depends on the image and the class. So random maps of the same resolution are
measured in the same way, and a bright blob in the centre, where photographs usually have their subject. A map without
information is as good as any random one, so it beats all 19 of them once in 20 times.
"""

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from resnet_space.explain.imputation import imputed
from resnet_space.explain.saliency import enlarged

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

MEASURES = {"insertion": "Insertion", "deletion": "Deletion", "road": "ROAD"}  # name -> label
STEPS = 10  # of insertion and deletion
ROAD_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the pixels that are replaced
RANDOM_MAPS = 19
BLUR = 1 / 8  # of the image's size: the standard deviation in pixels; the class is hardly to be seen then
BATCH = 64

Verdict = Literal["better", "chance", "worse"]
FloatMap = NDArray[np.float32]
Order = NDArray[np.intp]  # the pixels' positions, the most important first


@dataclass(frozen=True)
class Measure:
    """One measure of one map, and of its baselines.

    Attributes:
        name: of `MEASURES`.
        value: of the map; probabilities, so 0..1, or -0.5..0.5 for ROAD.
        random: of the random maps.
        centre: of a blob in the centre.
    """

    name: str
    value: float
    random: tuple[float, ...]
    centre: float

    @property
    def label(self) -> str:
        return MEASURES[self.name]

    @property
    def higher_is_better(self) -> bool:
        return self.name != "deletion"

    @property
    def random_mean(self) -> float:
        return statistics.fmean(self.random)

    @property
    def random_spread(self) -> float:
        """Their standard deviation."""
        return statistics.stdev(self.random)

    @property
    def beaten(self) -> int:
        """How many of the random maps it is better than."""
        return sum(self._better(self.value, other) for other in self.random)

    @property
    def beats_centre(self) -> bool:
        return self._better(self.value, self.centre)

    @property
    def verdict(self) -> Verdict:
        """ "better" than all random maps, "worse" than all of them, or else "chance"."""
        if self.beaten == len(self.random):
            return "better"
        return "worse" if all(self._better(other, self.value) for other in self.random) else "chance"

    @property
    def words(self) -> str:
        """What the number means, in plain sentences."""
        meaning = {
            "insertion": "mean probability of the class while the pixels of a blurred image are restored in the map's "
            "order",
            "deletion": "mean probability of the class while pixels are removed in the map's order",
            "road": "half of the difference in the class's probability between imputing the least and the most "
            "important pixels",
        }[self.name]
        better = "higher" if self.higher_is_better else "lower"
        count = len(self.random)
        ending = {
            "better": f"better than all {count} random maps (by chance: 1 in {count + 1})",
            "worse": f"worse than all {count} random maps",
            "chance": f"no better than chance: beats {self.beaten} of {count} random maps",
        }[self.verdict]
        return (
            f"{self.label} {self.value:.2f}: {meaning} ({better} is better). Random maps: {self.random_mean:.2f} ± "
            f"{self.random_spread:.2f}; centre blob: {self.centre:.2f}. Result: {ending}."
        )

    def _better(self, value: float, than: float) -> bool:
        return value > than if self.higher_is_better else value < than


@dataclass(frozen=True)
class Evidence:
    """The measures of one map of one image and class.

    Attributes:
        class_index: whose probability was measured.
        start: the class's probability for the whole image, 0..1.
        measures: by their names, in the order of `MEASURES`.
        fractions: [steps + 1] shares of the pixels inserted or deleted, 0..1.
        insertion_curve, deletion_curve: [steps + 1] the class's probability on the way.
    """

    class_index: int
    start: float
    measures: Mapping[str, Measure]
    fractions: tuple[float, ...]
    insertion_curve: tuple[float, ...]
    deletion_curve: tuple[float, ...]

    @property
    def verdict(self) -> Verdict:
        """Of the majority of the measures; "chance" where there is none."""
        verdicts = [measure.verdict for measure in self.measures.values()]
        return next((v for v in ("better", "worse") if verdicts.count(v) > len(verdicts) / 2), "chance")

    @property
    def words(self) -> str:
        """The verdict in plain words: one or two sentences."""
        count = {v: sum(m.verdict == v for m in self.measures.values()) for v in ("better", "worse")}
        of = len(self.measures)
        words = {
            "better": f"Faithful for this picture: the heatmap beats all random maps in {count['better']} of {of} "
            "measures.",
            "worse": f"Misleading for this picture: the heatmap is worse than all random maps in {count['worse']} of "
            f"{of} measures.",
            "chance": f"No better than chance for this picture: the heatmap beats all random maps in "
            f"{count['better']} of {of} measures. Do not read it as an explanation.",
        }[self.verdict]
        if self.verdict == "better" and not any(measure.beats_centre for measure in self.measures.values()):
            words += " However, a blob in the centre does equally well."
        return words


def evidence(
    model: "nn.Module",
    image: "Tensor",
    class_index: int | Mapping[str, int],
    maps: Mapping[str, FloatMap],
    *,
    temperature: float = 1.0,
    steps: int = STEPS,
    random_maps: int = RANDOM_MAPS,
    seed: int = 0,
    dtype: "torch.dtype | None" = None,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Evidence]:
    """Judge maps of one image float [1, 3, H, W], already normalised.

    `Classifier.evidence` is this for a model that others use at the same time.

    Args:
        model: gives logits [N, C]; it must be in eval mode.
        image: as the model expects it.
        class_index: whose probability is measured; of each map by its name where they are of several classes.
        maps: name -> [h, w] at its own resolution, not enlarged: random maps are as coarse, and made once for all maps
            of one resolution. A class's map (`ClassMaps.raw[k]`) or a CBAM's spatial gate.
        temperature: of the softmax.
        steps: in which insertion and deletion go.
        random_maps: to compare with, at least 2.
        seed: of the random maps.
        dtype: of autocast, None for plain float32.
        progress: is told the share that is done, 0..1, now and then.

    Returns:
        name -> its evidence.
    """
    generator = np.random.default_rng(seed)
    height, width = image.shape[-2:]
    class_of = class_index if isinstance(class_index, Mapping) else dict.fromkeys(maps, class_index)
    judge = _Judge(model, image, list(dict.fromkeys(class_of.values())), temperature, steps, dtype, generator)
    shapes = list(dict.fromkeys(values.shape for values in maps.values()))
    jobs: list[tuple[str, object, FloatMap]] = [("map", name, values) for name, values in maps.items()]
    jobs += [("random", shape, generator.random(shape, np.float32)) for shape in shapes for _ in range(random_maps)]
    jobs.append(("centre", None, _blob(height, width)))
    scores: dict[tuple[str, object], list[dict[int, _Scores]]] = {}
    for done, (kind, key, values) in enumerate(jobs, 1):
        scores.setdefault((kind, key), []).append(judge.scores(values))
        if progress:
            progress(done / len(jobs))
    found = {}
    for name, values in maps.items():
        index = class_of[name]
        own, centre, *random = (
            of[index] for of in scores["map", name] + scores["centre", None] + scores["random", values.shape]
        )
        found[name] = Evidence(
            index,
            judge.whole[index],
            {
                measure: Measure(
                    measure, own.values[measure], tuple(r.values[measure] for r in random), centre.values[measure]
                )
                for measure in MEASURES
            },
            tuple(step / steps for step in range(steps + 1)),
            own.insertion,
            own.deletion,
        )
    return found


@dataclass(frozen=True)
class _Scores:
    values: dict[str, float]
    insertion: tuple[float, ...]
    deletion: tuple[float, ...]


class _Judge:
    """One image: what a map's order of the pixels does to the probabilities of some classes, by their indices."""

    def __init__(
        self,
        model: "nn.Module",
        image: "Tensor",
        classes: Sequence[int],
        temperature: float,
        steps: int,
        dtype: "torch.dtype | None",
        generator: np.random.Generator,
    ) -> None:
        import torch
        from scipy.ndimage import gaussian_filter

        self.model, self.classes, self.temperature, self.dtype = model, classes, temperature, dtype
        self.steps, self.generator = steps, generator
        self.image = image[0].float().contiguous()
        sigma = max(image.shape[-2:]) * BLUR
        self.blurred = torch.from_numpy(gaussian_filter(self.image.numpy(), (0, sigma, sigma), mode="reflect"))
        self.grey = self.image.new_zeros(()).expand_as(self.image)  # the mean colour, normalised
        found = self._probabilities(iter([self.image, self.blurred, self.grey]))
        self.whole, self.start, self.end = ({c: found[c][i] for c in classes} for i in range(3))

    def scores(self, values: FloatMap) -> dict[int, _Scores]:
        """Of a map [h, w], for each class."""
        order = self.order(values)
        n = len(order)
        cuts = [round(n * step / self.steps) for step in range(1, self.steps)]
        removed = [round(n * share) for share in ROAD_SHARES]

        def images() -> "Iterator[Tensor]":
            for cut in cuts:
                yield self._swapped(self.blurred, self.image, order[:cut])
            for cut in cuts:
                yield self._swapped(self.image, self.grey, order[:cut])
            for chosen in (order, order[::-1]):
                for cut in removed:
                    yield imputed(self.image, chosen[:cut], self.generator)

        return {index: self._scores(index, found, len(cuts)) for index, found in self._probabilities(images()).items()}

    def _scores(self, index: int, found: Sequence[float], cuts: int) -> _Scores:
        """From the class's probabilities for the images of `scores`."""
        insertion = (self.start[index], *found[:cuts], self.whole[index])
        deletion = (self.whole[index], *found[cuts : 2 * cuts], self.end[index])
        most, least = np.split(np.array(found[2 * cuts :]), 2)
        return _Scores(
            {
                "insertion": float(np.trapezoid(insertion) / self.steps),
                "deletion": float(np.trapezoid(deletion) / self.steps),
                "road": float((least - most).mean() / 2),
            },
            insertion,
            deletion,
        )

    def order(self, values: FloatMap) -> Order:
        """The pixels by the map, the highest first. Equal ones, as the zeros of Grad-CAM, in random order."""
        height, width = self.image.shape[-2:]
        flat = enlarged(values, (height, width)).ravel()
        return np.lexsort((self.generator.random(len(flat)), -flat))

    @staticmethod
    def _swapped(image: "Tensor", other: "Tensor", where: Order) -> "Tensor":
        """The image [3, H, W] with some pixels of another."""
        import torch

        swapped = image.clone().flatten(1)
        chosen = torch.from_numpy(where.copy())
        swapped[:, chosen] = other.reshape(len(swapped), -1)[:, chosen]
        return swapped.view_as(image)

    def _probabilities(self, images: "Iterator[Tensor]") -> dict[int, list[float]]:
        """Of each class, for each image [3, H, W]; at most `BATCH` are in memory."""
        import torch

        found: dict[int, list[float]] = {index: [] for index in self.classes}
        with torch.inference_mode(), torch.autocast(self.image.device.type, self.dtype, enabled=self.dtype is not None):
            while batch := list(itertools.islice(images, BATCH)):
                stacked = torch.stack(batch).to(memory_format=torch.channels_last)
                logits = self.model(stacked).float() / self.temperature
                probabilities = logits.softmax(1)
                for index in self.classes:
                    found[index] += probabilities[:, index].tolist()
        return found


def _blob(height: int, width: int) -> FloatMap:
    """A Gaussian [H, W] in the centre, its standard deviation a quarter of the image."""
    y, x = (np.linspace(-2, 2, size, dtype=np.float32) for size in (height, width))
    blob: FloatMap = np.exp(-(y[:, None] ** 2 + x**2) / 2)
    return blob
