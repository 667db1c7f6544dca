"""Does a map show what the model looks at? Three measures for one image and class, beside maps that know nothing.

- Insertion (Petsiuk et al. 2018, arXiv:1806.07421): the image starts blurred, and its pixels come back in the map's
  order; the mean probability of the class on the way. Higher is better.
- Deletion (the same): pixels are replaced by the mean colour in the map's order. Lower is better.
- ROAD (Rong et al. 2022, arXiv:2202.00449): the most, and the least important pixels are replaced by what their
  neighbours suggest; half of the difference in probability between the two. Higher is better.

Each number means nothing alone, as it depends on the image and class. So the same is measured for random maps as coarse
as the one that is judged, and for a bright blob in the centre, where photographs have their subject. A map that knows
nothing is as good as any random one, so it beats all 19 of them once in 20 times.
"""

import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping
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
    """One measure of one map, beside the same of maps that know nothing.

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
            "insertion": "the class's mean probability while a blurred image's pixels come back in the map's order",
            "deletion": "the class's mean probability while the pixels are taken away in the map's order",
            "road": "half of what the class's probability falls by more when the most important pixels are replaced "
            "than when the least important are",
        }[self.name]
        better = "higher" if self.higher_is_better else "lower"
        count = len(self.random)
        ending = {
            "better": f"better than all {count} random maps, which chance does once in {count + 1} times",
            "worse": f"worse than all {count} random maps",
            "chance": f"no better than chance: it beats {self.beaten} of {count} random maps",
        }[self.verdict]
        return (
            f"{self.label} {self.value:.2f}: {meaning} ({better} is better). Random maps have {self.random_mean:.2f} ± "
            f"{self.random_spread:.2f}, a blob in the centre {self.centre:.2f}: {ending}."
        )

    def _better(self, value: float, than: float) -> bool:
        return value > than if self.higher_is_better else value < than


@dataclass(frozen=True)
class Evidence:
    """What speaks for and against one map of one image and class.

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
            "better": f"Better than chance for this picture: {count['better']} of {of} measures say that what the map "
            "marks matters for this class.",
            "worse": f"Misleading for this picture: {count['worse']} of {of} measures say that what the map marks "
            "matters less for this class than any random places.",
            "chance": f"No better than chance for this picture: {count['better']} of {of} measures say that what the "
            "map marks matters for this class. Read no reason into it.",
        }[self.verdict]
        if self.verdict == "better" and not any(measure.beats_centre for measure in self.measures.values()):
            words += " But a plain blob in the centre does as well."
        return words


def evidence(
    model: "nn.Module",
    image: "Tensor",
    class_index: int,
    maps: Mapping[str, FloatMap],
    *,
    temperature: float = 1.0,
    steps: int = STEPS,
    random_maps: int = RANDOM_MAPS,
    seed: int = 0,
    dtype: "torch.dtype | None" = None,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Evidence]:
    """Judge maps of one image float [1, 3, H, W], already normalised, for one class.

    `Classifier.evidence` is this for a model that others use at the same time.

    Args:
        model: gives logits [N, C]; it must be in eval mode.
        image: as the model expects it.
        class_index: whose probability is measured.
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
    judge = _Judge(model, image, class_index, temperature, steps, dtype, generator)
    shapes = list(dict.fromkeys(values.shape for values in maps.values()))
    jobs: list[tuple[str, object, FloatMap]] = [("map", name, values) for name, values in maps.items()]
    jobs += [("random", shape, generator.random(shape, np.float32)) for shape in shapes for _ in range(random_maps)]
    jobs.append(("centre", None, _blob(height, width)))
    scores: dict[tuple[str, object], list[_Scores]] = {}
    for done, (kind, key, values) in enumerate(jobs, 1):
        scores.setdefault((kind, key), []).append(judge.scores(values))
        if progress:
            progress(done / len(jobs))
    (centre,) = scores["centre", None]
    found = {}
    for name, values in maps.items():
        (own,), random = scores["map", name], scores["random", values.shape]
        found[name] = Evidence(
            class_index,
            judge.whole,
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
    """One image and class: what a map's order of the pixels does to the class's probability."""

    def __init__(
        self,
        model: "nn.Module",
        image: "Tensor",
        class_index: int,
        temperature: float,
        steps: int,
        dtype: "torch.dtype | None",
        generator: np.random.Generator,
    ) -> None:
        import torch
        from scipy.ndimage import gaussian_filter

        self.model, self.class_index, self.temperature, self.dtype = model, class_index, temperature, dtype
        self.steps, self.generator = steps, generator
        self.image = image[0].float().contiguous()
        sigma = max(image.shape[-2:]) * BLUR
        self.blurred = torch.from_numpy(gaussian_filter(self.image.numpy(), (0, sigma, sigma), mode="reflect"))
        self.grey = self.image.new_zeros(()).expand_as(self.image)  # the mean colour, normalised
        self.whole, self.start, self.end = self._probabilities(iter([self.image, self.blurred, self.grey]))

    def scores(self, values: FloatMap) -> _Scores:
        """Of a map [h, w]."""
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

        found = self._probabilities(images())
        insertion = (self.start, *found[: len(cuts)], self.whole)
        deletion = (self.whole, *found[len(cuts) : 2 * len(cuts)], self.end)
        most, least = np.split(np.array(found[2 * len(cuts) :]), 2)
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

    def _probabilities(self, images: "Iterator[Tensor]") -> tuple[float, ...]:
        """Of the class, for each image [3, H, W]; at most `BATCH` are in memory."""
        import torch

        found: list[float] = []
        with torch.inference_mode(), torch.autocast(self.image.device.type, self.dtype, enabled=self.dtype is not None):
            while batch := list(itertools.islice(images, BATCH)):
                stacked = torch.stack(batch).to(memory_format=torch.channels_last)
                logits = self.model(stacked).float() / self.temperature
                found += logits.softmax(1)[:, self.class_index].tolist()
        return tuple(found)


def _blob(height: int, width: int) -> FloatMap:
    """A Gaussian [H, W] in the centre, its standard deviation a quarter of the image."""
    y, x = (np.linspace(-2, 2, size, dtype=np.float32) for size in (height, width))
    blob: FloatMap = np.exp(-(y[:, None] ** 2 + x**2) / 2)
    return blob
