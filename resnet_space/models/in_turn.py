"""Networks whose modules run one after the other: LeNet-5 (LeCun et al. 1998), and torchvision's AlexNet and GoogLeNet.

Each names its modules in forward order; all that the contract asks for follows from that. There is no dropout, as in
timm's networks unless one asks for it.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torchvision import models

from resnet_space.models.contract import Backbone, Part, Segment, with_cut_kernel
from resnet_space.models.registry import HEAD, STEM


class InTurn(Backbone):
    """images [N, 3, H, W] -> logits [N, num_classes].

    Attributes:
        feature_modules: the names of the modules that give the features [N, C, h, w], in forward order.
        neck_modules: of those between the features and the head.
        head_module: of the head, a linear layer.
        blocks: those with weights, by stage: "stem", "stage1", ...
    """

    feature_modules: Sequence[str]
    neck_modules: Sequence[str]
    head_module: str
    blocks: Mapping[str, Sequence[str]]

    def _run(self, names: Sequence[str], x: Tensor) -> Tensor:
        for name in names:
            x = self.get_submodule(name)(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """The contract's: torchvision's own forward passes have branches that are not needed here."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        return self._run(self.feature_modules, x)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = self._run(self.neck_modules, features)
        logits: Tensor = pooled if pre_logits else self.get_classifier()(pooled)
        return logits

    def get_classifier(self) -> nn.Module:
        return self.get_submodule(self.head_module)

    def reset_classifier(self, num_classes: int) -> None:
        old = self.get_classifier()
        assert isinstance(old, nn.Linear)
        self.set_submodule(self.head_module, nn.Linear(old.in_features, num_classes))

    def _stage_of(self) -> dict[str, str]:
        """The stage of every module; one without weights belongs to the last before it that has some."""
        own = {module: stage for stage, modules in self.blocks.items() for module in modules} | {self.head_module: HEAD}
        found, stage = dict[str, str](), STEM
        for name in (*self.feature_modules, *self.neck_modules, self.head_module):
            stage = own.get(name, stage)
            found[name] = stage
        return found

    def parts(self) -> list[Part]:
        named = {
            (stage if stage == STEM else f"{stage}.{i}", stage): module
            for stage, modules in self.blocks.items()
            for i, module in enumerate(modules)
        } | {(HEAD, HEAD): self.head_module}
        return [
            Part(part, stage, tuple(f"{module}.{name}" for name, _ in self.get_submodule(module).named_parameters()))
            for (part, stage), module in named.items()
        ]

    def segments(self) -> Sequence[Segment]:
        modules = ((stage, self.get_submodule(name)) for name, stage in self._stage_of().items())
        return tuple(Segment(stage, module, (module,)) for stage, module in modules)

    def stages(self) -> dict[str, str]:
        """Each stage that gives feature maps, and its last module, such as a pooling layer."""
        stage_of = self._stage_of()
        return {stage_of[name]: name for name in self.feature_modules}


class LeNet5(InTurn):
    """LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B).

    As in the paper: 5x5 convolutions, subsampling, tanh. Unlike it: three colours, subsampling without weights, every
    map of C3 sees all of S2, a linear layer instead of radial basis functions. Of images larger than 32 pixels, C5's
    outputs are averaged.
    """

    feature_modules = ("c1", "tanh1", "s2", "c3", "tanh3", "s4")
    neck_modules = ("c5", "tanh5", "pool", "flatten", "f6", "tanh6")
    head_module = "output"
    blocks = {STEM: ("c1",), "stage1": ("c3",), "stage2": ("c5", "f6")}  # noqa: RUF012

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.c1, self.tanh1, self.s2 = nn.Conv2d(3, 6, 5), nn.Tanh(), nn.AvgPool2d(2)
        self.c3, self.tanh3, self.s4 = nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)
        self.c5, self.tanh5 = nn.Conv2d(16, 120, 5), nn.Tanh()
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.f6, self.tanh6 = nn.Linear(120, 84), nn.Tanh()
        self.output = nn.Linear(84, num_classes)


class AlexNet(InTurn, models.AlexNet):
    """torchvision's, which is AlexNet (Krizhevsky et al. 2012) as Krizhevsky 2014 (arXiv:1404.5997) has it.

    Args:
        num_classes: logits.
        stem: "imagenet" is 11x11/4, for about 224 px; "cifar" is 3x3/1, for about 32 px.
    """

    feature_modules = tuple(f"features.{i}" for i in range(13))
    neck_modules = ("avgpool", "flatten", *(f"classifier.{i}" for i in range(6)))
    head_module = "classifier.6"
    blocks = {  # noqa: RUF012
        STEM: ("features.0",),
        **{f"stage{i}": (f"features.{conv}",) for i, conv in enumerate((3, 6, 8, 10), 1)},
        "stage5": ("classifier.1", "classifier.4"),
    }

    features: nn.Sequential

    def __init__(self, num_classes: int = 1000, stem: str = "imagenet") -> None:
        models.AlexNet.__init__(self, num_classes, dropout=0.0)
        self.flatten = nn.Flatten()
        if stem == "cifar":
            self.features[0] = nn.Conv2d(3, 64, 3, padding=1)

    def fit_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        first = self.features[0]
        assert isinstance(first, nn.Conv2d)
        return with_cut_kernel(weights, "features.0.weight", first.kernel_size[0])


class GoogLeNet(InTurn, models.GoogLeNet):
    """torchvision's, after Szegedy et al. 2014 (arXiv:1409.4842), without the auxiliary heads of the training."""

    feature_modules = (
        *("conv1", "maxpool1", "conv2", "conv3", "maxpool2", "inception3a", "inception3b", "maxpool3"),
        *(f"inception4{letter}" for letter in "abcde"),
        *("maxpool4", "inception5a", "inception5b"),
    )
    neck_modules = ("avgpool", "flatten", "dropout")
    head_module = "fc"
    blocks = {  # noqa: RUF012
        STEM: ("conv1",),
        "stage1": ("conv2", "conv3"),
        "stage2": ("inception3a", "inception3b"),
        "stage3": tuple(f"inception4{letter}" for letter in "abcde"),
        "stage4": ("inception5a", "inception5b"),
    }

    def __init__(self, num_classes: int = 1000) -> None:
        models.GoogLeNet.__init__(self, num_classes, aux_logits=False, init_weights=True, dropout=0.0)
        self.flatten = nn.Flatten()
