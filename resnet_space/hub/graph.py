"""A run's whole way from pictures to answers as one module: what the ONNX files contain."""

import warnings
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from resnet_space.config import ModelConfig
from resnet_space.data.images import LARGE
from resnet_space.explain.ood import FeatureStatistics, recorded_means
from resnet_space.explain.saliency import mapped_stages
from resnet_space.models import Backbone, ChannelAttention
from resnet_space.training.evaluation import most_probable

if TYPE_CHECKING:
    from torch.onnx import ONNXProgram

OPSET = 20  # what the exporter takes by itself; onnxruntime reads the file from its version 1.18 on
FIXED_POINT, HALF = 2.0**22, 2.0**11  # Pillow's weights of pixels are multiples of 1 / the former
CLASS_NAMES = "class_names"


class WholeNetwork(nn.Module):
    """uint8 pictures [N, H, W, 3] of any size -> what `Classifier.predict` gives for them, by output name.

    `outputs` are the names, in order; k = min(5, C):

      logits             float32 [N, C]
      probabilities      float32 [N, C], calibrated by the temperature
      top_probabilities  float32 [N, k], the largest of them first
      top_indices        int64 [N, k], theirs
      ood_score          float32 [N], above 1 for a picture unlike the training images; where the run has statistics
      maps               float32 [N, k, h, w], Grad-CAM of the top classes; where the classifier is linear in the mean
                         features, so that it needs no gradient
      seen               uint8 [N, S, S, 3], the pixels that the model sees; where there are no maps
    """

    def __init__(self, model: Backbone, config: ModelConfig, statistics: FeatureStatistics | None) -> None:
        super().__init__()
        self.model = _traceable(model)
        self.config = config
        self.register_buffer("means", torch.tensor(config.mean)[:, None, None] * 255)
        self.register_buffer("scales", 1 / (torch.tensor(config.std)[:, None, None] * 255))
        self.has_statistics = statistics is not None
        for name, values in vars(statistics).items() if statistics else ():
            self.register_buffer(f"ood_{name}", torch.from_numpy(values))
        self.has_maps = is_linear_in_means(model, config)
        optional = {"ood_score": self.has_statistics, "maps": self.has_maps, "seen": not self.has_maps}
        self.outputs: tuple[str, ...] = ("logits", "probabilities", "top_probabilities", "top_indices")
        self.outputs += tuple(name for name, is_there in optional.items() if is_there)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        seen = self.seen(images)
        with recorded_means(self.model) as means:
            features = self.model.forward_features(self.prepared(seen))
            logits = self.model.forward_head(features)
        calibrated = logits / self.config.temperature
        probabilities, (top_probabilities, top_indices) = calibrated.softmax(1), most_probable(calibrated)
        found = [logits, probabilities, top_probabilities, top_indices]
        if self.has_statistics:
            found.append(self._ood_score(means[0]))
        if self.has_maps:
            maps = self.model.to_map(features)
            weights: Any = self.model.get_classifier().weight
            each = torch.einsum("nkc,nchw->nkhw", weights[top_indices], maps)
            found.append(each.relu() / (maps.shape[2] * maps.shape[3]))
        else:
            found.append(seen.permute(0, 2, 3, 1).to(torch.uint8))
        return tuple(found)

    def seen(self, images: Tensor) -> Tensor:
        """uint8 [N, H, W, 3] -> whole numbers [N, 3, S, S], as `to_model_size`: Pillow's antialiased bicubic resize.

        As Pillow, it resizes rows first and rounds after each direction. Sizes are tensors here: the file is traced
        once, for pictures of any size.
        """
        _, height, width, _ = images.shape
        high, wide = (torch.scalar_tensor(length, dtype=torch.float64) for length in (height, width))
        sides = torch.minimum(high, wide), torch.maximum(high, wide)
        pixels = images.permute(0, 3, 1, 2).float()
        pixels = _resized(pixels, self._shares(wide, width, *sides))
        return _resized(pixels.mT, self._shares(high, height, *sides)).mT

    def prepared(self, seen: Tensor) -> Tensor:
        """float32, as `Classifier.prepare`."""
        return (seen - self.means) * self.scales

    def _shares(self, length: Tensor, pixels: int, short: Tensor, long: Tensor) -> Tensor:
        """Along one axis, float64 [S, pixels]: the share of each pixel of the picture in those that the model sees.

        The short side becomes `stored_size` pixels, of which the middle S are seen. Of a panorama, Pillow is given the
        middle as a box, whose edges it rounds to float32: see `to_model_size`.
        """
        stored, size = self.config.stored_size, self.config.image_size
        resized = (length * stored / short).floor()
        left = ((resized - stored) / 2).round()
        start, end = ((edge * length / resized).float() for edge in (left, left + stored))
        is_panorama = (long * stored / short).floor() * stored > LARGE
        step = torch.where(is_panorama, (end - start).double() / stored, length / resized)
        seen = round((stored - size) / 2) + torch.arange(size, dtype=torch.float64) + 0.5
        centres = torch.where(is_panorama, start + seen * step, (left + seen) * step)
        x = (torch.arange(pixels, dtype=torch.float64) + 0.5 - centres[:, None]) / step.clamp(min=1)
        x = x.abs()
        near, far = (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2  # cubic convolution, a = -0.5
        shares = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
        return shares / shares.sum(1, keepdim=True)

    def _ood_score(self, means: Tensor) -> Tensor:
        """As `FeatureStatistics.ood_score`."""
        own: Any = self
        scaled = (means - own.ood_mean) / own.ood_scale
        along = (scaled @ own.ood_directions.T) ** 2
        beside = ((scaled**2).sum(1) - along.sum(1)).clamp(min=0)
        score: Tensor = ((along / own.ood_variances).sum(1) + beside / own.ood_rest) / own.ood_limit
        return score


def _resized(pixels: Tensor, shares: Tensor) -> Tensor:
    """Whole numbers [..., L] and shares [S, L] -> whole numbers [..., S] in 0..255, equal to Pillow's.

    Pillow adds in fixed point. Two products of halves of the weights are exact in float32; one with all of their bits
    would round, and a pixel in some ten thousand would differ by 1.
    """
    fixed = (shares * FIXED_POINT).round()
    coarse = (fixed / HALF).round()
    fine = fixed - coarse * HALF
    sums = (pixels @ coarse.float().T).double() * HALF + (pixels @ fine.float().T).double()
    return (sums / FIXED_POINT + 0.5).floor().clamp(0, 255).float()


def is_linear_in_means(model: Backbone, config: ModelConfig) -> bool:
    """Whether the logits are a linear layer of the channel means of the last features, found by trying it.

    Then the gradient that Grad-CAM weights a channel with is the class's weight of it (Zhou et al. 2016, CAM).
    """
    classifier = model.get_classifier()
    if mapped_stages(model)[-1:] != list(model.stages())[-1:]:  # the app's maps are of another layer
        return False
    with torch.inference_mode():
        size = config.image_size
        features = model.forward_features(torch.zeros(1, 3, size, size))
        # Not only positive ones: a head may have a ReLU.
        features = torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
        maps = model.to_map(features)
        if not isinstance(classifier, nn.Linear) or maps.shape[1] != classifier.in_features:
            return False
        return torch.allclose(classifier(maps.mean((2, 3))), model.forward_head(features), rtol=1e-3, atol=1e-4)


def traced(network: WholeNetwork, classes: tuple[str, ...]) -> "ONNXProgram":
    """The network as an ONNX program, with an output `top_names`, strings [N, k], in addition."""
    import onnx_ir as ir

    size = network.config.stored_size
    axes = {axis: torch.export.Dim(name) for axis, name in enumerate("NHW")}
    with warnings.catch_warnings():
        # torch.export copies its own tree of arguments, and torch 2.11 warns itself about how it does that.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        program = torch.onnx.export(
            network.eval(),
            # With one image, tracing would fix N to 1, and with equal sides, they would have to be equal.
            (torch.zeros(2, size + 3, size + 5, 3, dtype=torch.uint8),),
            input_names=["images"],
            output_names=list(network.outputs),
            dynamic_shapes=(axes,),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # it is None without `dynamo` only
    graph = program.model.graph
    # The exporter notes where in which source file each node comes from, with the paths of this machine.
    program.model.metadata_props.clear()
    graph.metadata_props.clear()
    for node in graph:
        node.metadata_props.clear()
    names = ir.StringTensor([name.encode() for name in classes], shape=ir.Shape([len(classes)]), name=CLASS_NAMES)
    known = ir.Value(name=CLASS_NAMES, shape=names.shape, type=ir.TensorType(ir.DataType.STRING), const_value=names)
    graph.register_initializer(known)
    indices = next(output for output in graph.outputs if output.name == "top_indices")
    gather = ir.node("Gather", [known, indices], name="names_of_the_top")
    (top,) = gather.outputs
    top.name, top.shape, top.type = "top_names", indices.shape, ir.TensorType(ir.DataType.STRING)
    graph.append(gather)
    graph.outputs.append(top)
    return program


def _traceable(model: Backbone) -> Backbone:
    """The same model, from now on for tracing only."""
    for module in model.modules():
        if isinstance(module, ChannelAttention):
            module.forward = MethodType(_traceable_channel_attention, module)  # pyrefly: ignore[method-assign]
        if hasattr(module, "fused_attn"):  # timm's: the exporter of torch 2.11 fails on the fused one with a mask
            setattr(module, "fused_attn", False)  # noqa: B010
    return model


def _traceable_channel_attention(module: ChannelAttention, x: Tensor) -> Tensor:
    """As `ChannelAttention.forward`, which the exporter of torch 2.11 cannot translate for two reasons.

    It has no adaptive max-pool (pytorch/pytorch#183439), and it cannot prove for any N that half of 2N images is N.
    """
    gate: Tensor = module.gate(module.mlp(x.mean((2, 3))) + module.mlp(x.amax((2, 3))))
    return module.gain * gate[:, :, None, None]
