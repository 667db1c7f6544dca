"""Do a model's maps depend on what it has learned? (Adebayo et al. 2018, arXiv:1810.03292)

The weights are randomised in steps, from the head down to the stem. Maps that stay the same show edges of the picture
rather than what the model learned.
"""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resnet_space.explain.saliency import METHODS
from resnet_space.runs import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from torch.nn.modules.batchnorm import _BatchNorm

    from resnet_space.models import Backbone

# Methods that are not of `saliency`, as their maps are the same for every class.
GATES, ROLLOUT = "gates", "rollout"
OF_NO_CLASS = {GATES: "The spatial gate of the last CBAM", ROLLOUT: "Attention rollout to the class token"}
SANITY_IMAGES = 16
MOST_LEFT = 0.5  # of the rank correlation, once all weights are random, for maps that depend on them


@dataclass(frozen=True)
class SanityCheck:
    """How similar the maps of a model with more and more random weights are to the original ones.

    Attributes:
        method: of `saliency.METHODS` or `OF_NO_CLASS`.
        parts: what was randomised, in this order: "head", "layer3", "layer2", "layer1", "stem".
        correlations: the mean rank correlation (Spearman) of the maps over the images after each part, -1..1; 0 for a
            map without contrast.
        images: their number.
    """

    method: str
    parts: tuple[str, ...]
    correlations: tuple[float, ...]
    images: int

    @property
    def label(self) -> str:
        """The method's name for readers."""
        return (OF_NO_CLASS | METHODS).get(self.method, self.method)

    @property
    def passed(self) -> bool:
        """Whether the maps change enough once all weights are random."""
        return abs(self.correlations[-1]) < MOST_LEFT

    @property
    def words(self) -> str:
        """The result in plain sentences."""
        head, everything = self.correlations[0], self.correlations[-1]
        ending = (
            "so they depend on what the model learned" if self.passed else "so they show the picture, not the model"
        )
        words = (
            f"{self.label}: after all weights are randomised, the maps have a rank correlation of {everything:.2f} "
            f"with the original ones (1: identical, 0: unrelated; {self.images} images), {ending}."
        )
        if self.method in OF_NO_CLASS:
            return f"{words} They precede the head, so they are the same for every class."
        return f"{words} After only the head is randomised: {head:.2f}."


def sanity_check(
    model: "Backbone", images: "Tensor", methods: Sequence[str] = ("grad-cam",), *, seed: int = 0
) -> list[SanityCheck]:
    """Check the maps of the predicted classes at the last stage, by each method. The model is not changed.

    Args:
        model: in eval mode.
        images: float [N, 3, H, W], already normalised.
        methods: of `saliency.METHODS`, `GATES` for a model with CBAM, or `ROLLOUT` for one with attention heads.
        seed: of the random weights, which are the same for all methods.
    """
    import torch

    with torch.inference_mode():
        classes = model(images).argmax(1).tolist()
    own = {method: _maps(model, images, classes, method) for method in methods}
    random = copy.deepcopy(model)
    parts = list[str]()
    correlations: dict[str, list[float]] = {method: [] for method in methods}
    norms: list[_BatchNorm] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, modules in _parts(random):
            norms += _make_random(modules)
            _settle(random, norms, images)
            parts.append(name)
            for method, maps in own.items():
                changed = _maps(random, images, classes, method)
                likeness = [_rank_correlation(*pair) for pair in zip(maps, changed, strict=True)]
                correlations[method].append(round(sum(likeness) / len(likeness), 4))
    return [SanityCheck(method, tuple(parts), tuple(found), len(images)) for method, found in correlations.items()]


def sanity_metric(check: SanityCheck) -> Metric:
    """As it is kept among a run's metrics."""
    fields = asdict(check)
    return {"event": "sanity", **{name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}}


def sanity_checks(metrics: Sequence[Metric]) -> list[SanityCheck]:
    """Those that were made at the end of a run's training, from its metrics; none for a run from before there were."""
    known = (*METHODS, *OF_NO_CLASS)  # a run from elsewhere may say anything
    last = {metric["method"]: metric for metric in metrics if metric["event"] == "sanity" and metric["method"] in known}
    return [SanityCheck(method, tuple(m["parts"]), tuple(m["correlations"]), m["images"]) for method, m in last.items()]


def _parts(model: "Backbone") -> "list[tuple[str, list[nn.Module]]]":
    """What is made random, from the head to the stem: the modules of each stage that have weights of their own."""
    stage_of = {name.rpartition(".")[0]: part.stage for part in model.parts() for name in part.parameters}
    found: dict[str, list[nn.Module]] = {}
    for name, module in model.named_modules():
        if name in stage_of:
            found.setdefault(stage_of[name], []).append(module)
    return list(found.items())[::-1]


def _make_random(modules: "list[nn.Module]") -> "list[_BatchNorm]":
    """Weights as before a training, but for CBAM's, which would then have no map at all; gives the norm layers whose
    statistics are of the images.
    """
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = []
    for module in modules:
        reset: Any = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
        else:  # such as a class token and the position embedding
            for parameter in module.parameters(recurse=False):
                nn.init.trunc_normal_(parameter, std=0.02)
        if isinstance(module, _BatchNorm):
            norms.append(module)
        elif isinstance(module, nn.Conv2d) and module.out_channels > 1:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return norms


def _settle(model: "Backbone", norms: "list[_BatchNorm]", images: "Tensor") -> None:
    """Fit the statistics of these norm layers to what they now receive: else the signal dies away."""
    import torch

    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean
        norm.train()
    with torch.inference_mode():
        model(images)
    model.eval()


def _maps(model: "Backbone", images: "Tensor", classes: list[int], method: str) -> "NDArray[np.float32]":
    """[N, h, w], each of its own class."""
    import torch

    from resnet_space.explain.attention import attention_maps, head_maps
    from resnet_space.explain.saliency import class_maps, grad_cam, mapped_stages
    from resnet_space.models.hooks import recorded

    if method == GATES:
        spatial = attention_maps(model, images).spatial
        return np.asarray(list(spatial.values())[-1].numpy(), dtype=np.float32)
    if method == ROLLOUT:
        maps = [attention_maps(model, image[None]) for image in images]
        return np.stack([head_maps(model, of_image, len(of_image.heads) - 1).rollout for of_image in maps])
    if method == "grad-cam":
        stage = mapped_stages(model)[-1]
        module = model.map_stages()[stage]
        with torch.inference_mode(), recorded(model, {module: lambda _inputs, output: output.clone()}) as outputs:
            model(images)
        return grad_cam(model, outputs[module][0], classes, model.after(stage))
    return np.concatenate(
        [class_maps(model, image[None], [c], method).raw for image, c in zip(images, classes, strict=True)]
    )


def _rank_correlation(a: Any, b: Any) -> float:
    """Spearman's, with equal values at their mean rank; 0 where one has no contrast."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1]) if a.std() and b.std() else 0.0


def _ranks(values: Any) -> Any:
    """The mean rank of equal values, less one half, which changes no correlation.

    By hand, as importing scipy.stats takes longer than ranking all maps of a check.
    """
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - counts / 2)[which.ravel()]
