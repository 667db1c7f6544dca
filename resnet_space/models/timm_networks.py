"""Networks built by timm: their entries, without importing timm, and the adapter to the contract."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from resnet_space.models.registry import HEAD, STEM, Entry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from resnet_space.models.contract import Part, Segment

# The attentions over all tokens, whose weights pass through a dropout.
_ATTENTIONS = ("timm.layers.attention.Attention", "timm.models.beit.Attention")
# Of stages and of blocks, as timm's `group_matcher` has them, where timm makes every layer or block a stage of its own.
# VGG's stages end at its poolings: all but the last are its first ten convolutions.
_MATCHERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "timm.models.vgg.VGG": (
        {
            "stem": r"^features\.0\.",
            "blocks": [
                (r"^features\.2\.", (1,)),
                (r"^features\.[57]\.", (2,)),
                (r"^features\.1[024]\.", (3,)),
                (r"^features\.(?:17|19|21)\.", (4,)),
                (r"^features\.2[468]\.|^pre_logits", (5,)),
            ],
        },
        {"stem": r"^features\.0\.", "blocks": [(r"^features\.(\d+)", None), (r"^pre_logits", (28,))]},
    ),
    "timm.models.beit.Beit": (
        {
            "stem": r"^cls_token|^pos_embed|^patch_embed|^rel_pos_bias",
            "blocks": [
                *((rf"^blocks\.[{blocks}]\.", (stage,)) for stage, blocks in enumerate(("012", "345", "678"), 1)),
                (r"^blocks\.(?:9|1\d)\.|^norm|^fc_norm", (4,)),
            ],
        },
        {
            "stem": r"^cls_token|^pos_embed|^patch_embed|^rel_pos_bias",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm|^fc_norm", (11,))],
        },
    ),
}

# The classes whose forward pass is their children one after the other, and which child holds the stages of blocks.
_IN_TURN = {"timm.models.efficientnet.EfficientNet": "blocks"}


def timm_entry(name: str, arguments: Mapping[str, Any] = MappingProxyType({}), **known: Any) -> Entry:
    """The entry of timm's network of this name; timm builds it with `arguments`, `known` has the other fields."""
    given = dict(arguments)
    return Entry(
        name,
        build=partial(_build, name, given),
        bare=partial(timm_network, name, given),
        source="timm",
        timm=True,
        timm_arguments=given,
        **known,
    )


def _build(*arguments: Any, **options: Any) -> "nn.Module":
    return adapted(timm_network(*arguments, **options))


def timm_network(
    name: str, arguments: Mapping[str, Any], num_classes: int, stem: str = "imagenet", hidden: bool = True
) -> "nn.Module":
    """`stem`: of a MobileNet; without stride where it is "cifar". `hidden`: whether a VGG has its hidden layers."""
    import timm

    smaller: dict[str, Any] = {} if hidden else {"mlp_ratio": 1 / 4096}  # they are made only to be left out
    model: Any = timm.create_model(name, pretrained=False, num_classes=num_classes, **arguments, **smaller)
    if stem == "cifar":
        model.conv_stem.stride = (1, 1)
    if not hidden:
        from timm.layers.classifier import ClassifierHead
        from torch import nn

        model.pre_logits = nn.Identity()
        model.head = ClassifierHead(model.num_features, num_classes)
        model.head_hidden_size = model.num_features
    network: nn.Module = model
    return network


def adapted(model: "nn.Module") -> "nn.Module":
    """A network of timm made a `Backbone`: the same modules and weights, with what the contract asks for beside timm's
    own `forward_features`, `forward_head`, `get_classifier` and `reset_classifier`.
    """
    from resnet_space.models.contract import Backbone

    kind = type(model)
    model.__class__ = type(kind.__name__, (_Timm, kind, Backbone), {"__module__": kind.__module__})
    return model


def _layer_by_layer(model: Any) -> "Sequence[Segment]":
    """The segments of a VGG. A layer without weights belongs to the one before it."""
    from resnet_space.models.contract import Segment

    stage_of = {name.rpartition(".")[0]: part.stage for part in model.parts() for name in part.parameters}
    found, stage = list[Segment](), STEM
    for name, module in model.features.named_children():
        stage = stage_of.get(f"features.{name}", stage)
        found.append(Segment(stage, module, (module,)))
    return *found, Segment(stage, model.pre_logits, (model.pre_logits,)), Segment(HEAD, model.head, (model.head,))


class _Timm:
    """By timm's own `group_matcher`, `feature_info` and `no_weight_decay`."""

    named_parameters: Callable[..., Any]
    named_modules: Callable[..., Any]
    get_classifier: "Callable[[], nn.Module]"
    feature_info: Any

    def parts(self) -> "list[Part]":
        from timm.models import group_parameters

        from resnet_space.models.contract import Part

        classifier = {id(parameter) for parameter in self.get_classifier().parameters()}
        model: Any = self
        stage_of, block_of = (group_parameters(model, matcher, reverse=True) for matcher in self._matchers())
        found: dict[tuple[str, str], list[str]] = {}
        first_block: dict[int, int] = {}
        for name, parameter in self.named_parameters():
            stage, block = stage_of[name], block_of[name]
            if id(parameter) in classifier:
                key = (HEAD, HEAD)
            elif stage == 0:
                key = (STEM, STEM)
            else:
                first = first_block.setdefault(stage, block)  # pyrefly: ignore[no-matching-overload]
                key = (f"stage{stage}.{block - first}", f"stage{stage}")
            found.setdefault(key, []).append(name)
        return [Part(part, stage, tuple(names)) for (part, stage), names in found.items()]

    def _matchers(self) -> tuple[Any, Any]:
        """Of stages and of blocks."""
        from resnet_space.models.additions import class_name

        model: Any = self
        name = class_name(model)
        return _MATCHERS.get(name) or (model.group_matcher(coarse=True), model.group_matcher(coarse=False))

    def fit_weights(self, weights: "dict[str, Tensor]") -> "dict[str, Tensor]":
        """Without the weights of hidden layers that this one is made without."""
        model: Any = self
        own = {name for name, _ in model.named_children()}
        left_out = "pre_logits." if "pre_logits" in own and not list(model.pre_logits.parameters()) else None
        return {name: value for name, value in weights.items() if not (left_out and name.startswith(left_out))}

    def segments(self) -> "Sequence[Segment]":
        """Block by block, where the order is known; else as of any network."""
        from torch import nn

        from resnet_space.models.additions import class_name
        from resnet_space.models.contract import Backbone, Segment

        model: Any = self
        blocks = _IN_TURN.get(class_name(model))
        if blocks is None:
            return Backbone.segments(model) if not hasattr(model, "pre_logits") else _layer_by_layer(model)
        stage_of = {name: part.stage for part in self.parts() for name in part.parameters}
        children = dict(model.named_children())
        names = list(children)
        at, last = names.index(blocks), list(children.values()).index(model.get_classifier())  # CBAMs come after it
        inner = [f"{blocks}.{i}.{j}" for i, stage in model.blocks.named_children() for j, _ in stage.named_children()]
        found = []
        for name in [*names[:at], *inner, *names[at + 1 : last + 1]]:
            module = model.get_submodule(name)
            own = [stage_of[f"{name}.{parameter}"] for parameter, _ in module.named_parameters()]
            skips = name in inner and module.has_skip
            block = name if name in inner else None
            found.append(Segment((*own, HEAD)[0], module, (module,), block, nn.Identity() if skips else None))
        return found

    def no_weight_decay(self) -> set[str]:
        from resnet_space.models.contract import Backbone

        own: set[str] = set(super().no_weight_decay())  # pyrefly: ignore[missing-attribute]  # timm's, where it has one
        model: Any = self
        return own | Backbone.no_weight_decay(model)

    def stages(self) -> dict[str, str]:
        """By `feature_info`, and the module whose output is that of `forward_features`."""
        infos = self.feature_info
        modules = [info["module"] for info in (infos if isinstance(infos, list) else infos.info)]
        return {module: module for module in [*modules, self._last_module]}

    @cached_property
    def _last_module(self) -> str:
        """Found by a forward pass."""
        import torch

        from resnet_space.models.hooks import Hook, eval_mode, hooked

        model: Any = self
        outputs: list[tuple[str, Tensor]] = []

        def hook(name: str) -> Hook:
            return lambda _module, _inputs, output: outputs.append((name, output))

        names = [name for name, _ in self.named_modules() if name]
        _, height, width = model.pretrained_cfg["input_size"]
        with torch.inference_mode(), eval_mode(model), hooked(model, [(name, hook(name)) for name in names]):
            features = model.forward_features(next(model.parameters()).new_zeros(1, 3, height, width))
        return next(name for name, output in reversed(outputs) if output is features)

    def attention_weights(self) -> dict[str, str]:
        from resnet_space.models.additions import class_name

        attentions = [name for name, module in self.named_modules() if class_name(module) in _ATTENTIONS]
        return {name.rpartition(".")[0]: f"{name}.attn_drop" for name in attentions}

    def to_map(self, features: "Tensor") -> "Tensor":
        """Tokens are in row order after the class token and registers; some networks have channels last."""
        model: Any = self
        if features.ndim == 3:
            tokens: Tensor = features[:, getattr(model, "num_prefix_tokens", 0) :]
            side = round(tokens.shape[1] ** 0.5)
            mapped: Tensor = tokens.transpose(1, 2).unflatten(2, (side, tokens.shape[1] // side))
            return mapped
        if getattr(model, "output_fmt", "NCHW") == "NHWC":
            return features.permute(0, 3, 1, 2)
        return features
