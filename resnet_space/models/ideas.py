"""What each network brought: its idea in three sentences, its block as a drawing, and its published error on ImageNet.

Plain data beside the registry, by the names of its networks. A network without an `Idea` or a `Published` is only left
out where they are shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# A block from its input down: a layer; `SPLIT`, where a shortcut begins, and `ADD` or `JOIN`, where it ends in a sum or
# a concatenation; or branches side by side, which are concatenated.
Step = str | tuple[tuple[str, ...], ...]
SPLIT, ADD, JOIN = "split", "add", "join"


@dataclass(frozen=True)
class Idea:
    """Of a network or a family.

    Attributes:
        title: its name.
        words: three sentences.
        block: a key of `BLOCKS`.
    """

    title: str
    words: str
    block: str


@dataclass(frozen=True)
class Published:
    """A network's top-5 error on ImageNet's validation images.

    Attributes:
        top5: from 0 to 1; None where nobody published it for this network.
        source: where it stands.
        of_paper: whether in the network's own paper; else its authors' or torchvision's repository has it.
    """

    top5: float | None = None
    source: str = ""
    of_paper: bool = True


BLOCKS: dict[str, Sequence[Step]] = {
    "convolutions": ("Convolution, ReLU", "Convolution, ReLU", "Max pooling"),
    "inception": ((("1x1",), ("1x1", "3x3"), ("1x1", "5x5"), ("Pooling", "1x1")),),
    "basic": (SPLIT, "3x3, BatchNorm, ReLU", "3x3, BatchNorm", ADD, "ReLU"),
    "bottleneck": (SPLIT, "1x1, BatchNorm, ReLU", "3x3, BatchNorm, ReLU", "1x1, BatchNorm", ADD, "ReLU"),
    "grouped": (SPLIT, "1x1, BatchNorm, ReLU", "3x3 in 32 groups, BatchNorm, ReLU", "1x1, BatchNorm", ADD, "ReLU"),
    "inception residual": (SPLIT, (("1x1",), ("1x1", "3x3"), ("1x1", "3x3", "3x3")), "1x1", ADD, "ReLU"),
    "dense": (SPLIT, "BatchNorm, ReLU, 1x1", "BatchNorm, ReLU, 3x3", JOIN),
    "inverted": (SPLIT, "1x1 to 6 times the channels, ReLU6", "3x3 depthwise, ReLU6", "1x1 back, no activation", ADD),
    "inverted, gated": (
        SPLIT,
        "1x1 to more channels",
        "3x3 or 5x5 depthwise",
        "Squeeze-and-excitation",
        "1x1 back",
        ADD,
    ),
    "convnext": (SPLIT, "7x7 depthwise, LayerNorm", "1x1 to 4 times the channels, GELU", "1x1 back", ADD),
    "transformer": (SPLIT, "LayerNorm", "Attention over all patches", ADD, SPLIT, "LayerNorm", "MLP per patch", ADD),
    "window": (SPLIT, "LayerNorm", "Attention in 7x7 windows", ADD, SPLIT, "LayerNorm", "MLP per patch", ADD),
}

# By the beginning of the networks' names; of several the longest counts.
IDEAS = {
    "lenet": Idea(
        "LeNet-5",
        "Convolutions share their weights over all positions, so few parameters see the whole digit. Subsampling "
        "between them makes small shifts matter less. It read millions of cheques, and every later network keeps its "
        "plan of convolutions first and a classifier last.",
        "convolutions",
    ),
    "alexnet": Idea(
        "AlexNet",
        "The plan of LeNet, with 60 million parameters, trained on 1.2 million photographs with two GPUs. ReLU trains "
        "several times faster than tanh, and dropout and augmentation hold back overfitting. Its victory in 2012 by "
        "ten points turned computer vision to deep learning.",
        "convolutions",
    ),
    "vgg": Idea(
        "VGG",
        "Two 3x3 convolutions see as much as one 5x5, with fewer weights and one more ReLU. So the whole network is "
        "one simple block, repeated to 16 or 19 layers. Its features transfer well, but its three linear layers hold "
        "most of its 138 million parameters.",
        "convolutions",
    ),
    "googlenet": Idea(
        "GoogLeNet (Inception)",
        "Each module runs 1x1, 3x3 and 5x5 convolutions side by side and concatenates them, so no one filter size has "
        "to be chosen. 1x1 convolutions cut the channels before the expensive ones. Global average pooling replaces "
        "the large linear layers: 7 million parameters instead of 60.",
        "inception",
    ),
    "inception_v3": Idea(
        "Inception V3",
        "It factorises large filters: 5x5 into two 3x3, and nxn into 1xn and nx1. BatchNorm and label smoothing make "
        "it train faster and generalise better. It expects images of 299 pixels.",
        "inception",
    ),
    "inception_resnet": Idea(
        "Inception-ResNet V2",
        "Inception modules as the residual branch of a block: their concatenation goes through a 1x1 convolution and "
        "is added to the input. The shortcuts speed up training a lot. The authors scale F(x) by about 0.1 to 0.3 "
        "before the sum, to keep very wide networks stable.",
        "inception residual",
    ),
    "resnet": Idea(
        "ResNet",
        "Plain networks get worse when they get too deep, even on their training images. A residual block learns only "
        "the change F(x) and adds its input x, so a block that is not needed can stay near zero. Gradients pass the "
        "shortcuts unchanged, and 152 layers train well.",
        "basic",
    ),
    "resnet50": Idea(
        "ResNet with bottlenecks",
        "A residual block learns only the change F(x) and adds its input x, so very deep networks train well. The "
        "bottleneck cuts the channels to a quarter with a 1x1 convolution, works there with a 3x3, and restores them. "
        "So 50 layers cost hardly more than 34 basic ones.",
        "bottleneck",
    ),
    "wide_resnet": Idea(
        "Wide ResNet",
        "Width instead of depth: the inner 3x3 convolution of each bottleneck has twice the channels. Wide, shallow "
        "networks reach the accuracy of much deeper, thin ones. They train faster, because GPUs prefer a few large "
        "operations.",
        "bottleneck",
    ),
    "resnext": Idea(
        "ResNeXt",
        "The 3x3 convolution of the bottleneck is split into 32 groups, each with its own channels. This cardinality "
        "is a third dimension beside depth and width. At the same cost, it is more accurate than a ResNet.",
        "grouped",
    ),
    "densenet": Idea(
        "DenseNet",
        "Each layer sees the outputs of all layers before it in its stage, by concatenation instead of addition. So "
        "each layer only adds a few new channels, and features are reused instead of learned again. It needs few "
        "parameters, but much memory.",
        "dense",
    ),
    "mobilenetv2": Idea(
        "MobileNetV2",
        "A depthwise convolution filters each channel by itself, at a fraction of the cost. The inverted residual "
        "expands the channels for it and keeps the shortcut between the thin ends. The last 1x1 has no activation, "
        "because ReLU would destroy information in so few channels.",
        "inverted",
    ),
    "mobilenetv3": Idea(
        "MobileNetV3",
        "The block of MobileNetV2 with squeeze-and-excitation, which gates the channels. The widths were found by an "
        "automatic search for the latency on a phone. Hard swish replaces costly activations.",
        "inverted, gated",
    ),
    "efficientnet": Idea(
        "EfficientNet",
        "Depth, width and image size are scaled together, by one coefficient, instead of one of them alone. B0 was "
        "found by a search; B1 to B7 are B0 scaled up. B7 reached the best accuracy of its time with 8 times fewer "
        "parameters than its rival.",
        "inverted, gated",
    ),
    "tf_efficientnet_lite": Idea(
        "EfficientNet-Lite",
        "EfficientNet for phones: without squeeze-and-excitation, which mobile hardware runs slowly. ReLU6 replaces "
        "swish, so that the network can be quantised to 8 bits. Stem and head keep their size when it is scaled.",
        "inverted",
    ),
    "convnext": Idea(
        "ConvNeXt",
        "A ResNet-50, changed step by step towards a Swin Transformer, but without attention. Large 7x7 depthwise "
        "kernels, LayerNorm, GELU and fewer activations each add a little. It shows that much of the transformers' "
        "lead came from design and training.",
        "convnext",
    ),
    "vit": Idea(
        "Vision Transformer (ViT)",
        "The picture is cut into patches, and each becomes a token, like a word. In every block, attention mixes the "
        "tokens and an MLP processes each. It knows nothing of neighbourhoods in advance, so it needs much data or a "
        "strong recipe.",
        "transformer",
    ),
    "deit": Idea(
        "DeiT",
        "The Vision Transformer, unchanged, trained on ImageNet alone. Strong augmentation, regularisation and "
        "stochastic depth replace the hundreds of millions of images. A variant also learns from a convolutional "
        "teacher.",
        "transformer",
    ),
    "swin": Idea(
        "Swin Transformer",
        "Attention stays within windows of 7x7 tokens, so its cost grows linearly with the image. Every other block "
        "shifts the windows, which connects them. Tokens are merged between four stages, as in a convolutional "
        "network.",
        "window",
    ),
    "beit": Idea(
        "BEiT",
        "Self-supervised like BERT: 40 % of the patches are masked, and the network predicts their visual tokens. "
        "These come from an image tokeniser that was trained before. Then it is fine-tuned with labels.",
        "transformer",
    ),
    "mocov3": Idea(
        "MoCo v3",
        "Two views of one image must be close, and those of different images far apart; labels are not used. A slowly "
        "moving copy of the network encodes the second view. Freezing the random patch projection keeps the training "
        "of transformers stable.",
        "transformer",
    ),
    "dino": Idea(
        "DINO",
        "A student predicts the output of a teacher, its own moving average, for another crop of the image, without "
        "labels. Centring and sharpening keep the output from collapsing. The attention of the class token then "
        "outlines objects.",
        "transformer",
    ),
    "dinov2": Idea(
        "DINOv2",
        "DINO and masked patches together, on 142 million curated images. The features are strong without fine- "
        "tuning: a linear head or nearest neighbours are enough. The small networks are distilled from a giant one.",
        "transformer",
    ),
    "mae": Idea(
        "MAE",
        "75 % of the patches are hidden, and a light decoder reconstructs their pixels. The encoder sees only the "
        "other 25 %, so pretraining is fast. It shines when all of it is fine-tuned, less as frozen features.",
        "transformer",
    ),
}
_SAME = {  # names whose beginning says another idea, or none
    "resnet101": "resnet50",
    "resnet152": "resnet50",
    "resnet110": "resnet",
    "mobilenet_v2": "mobilenetv2",
    "mobilenet_v3": "mobilenetv3",
    "tf_efficientnet_b": "efficientnet",
    "vit_small_patch14_dinov2": "dinov2",
    "vit_small_patch16_224_dino": "dino",
    "vit_base_patch16_224_mae": "mae",
}


def idea_of(name: str) -> Idea | None:
    """Of a network by its name in the registry, or of pretrained weights by theirs."""
    begun = max((start for start in (*IDEAS, *_SAME) if name.replace(".", "_").startswith(start)), key=len, default="")
    return IDEAS.get(_SAME.get(begun, begun))


_RESNET = "He et al. 2015, table 3: 10 crops"
_EFFICIENTNET = "Tan & Le 2019, table 2"
_DEIT = "the authors' repository (facebookresearch/deit)"
_SWIN = "the authors' repository (microsoft/Swin-Transformer)"


def _torchvision(weights: str, percent: float) -> Published:
    return Published(percent / 100, f"torchvision's {weights}", of_paper=False)


PUBLISHED = {
    "lenet5": Published(),
    "alexnet": Published(0.182, "Krizhevsky et al. 2012, table 2: one network"),
    "vgg16": Published(0.081, "Simonyan & Zisserman 2014, table 3: network D, one scale"),
    "googlenet": Published(0.1007, "Szegedy et al. 2014, table 3: one network, one crop"),
    "inception_v3": Published(0.056, "Szegedy et al. 2015, abstract: one network, one crop"),
    "resnet18": _torchvision("resnet18, IMAGENET1K_V1", 10.922),
    "resnet34": Published(0.074, _RESNET),
    "resnet50": Published(0.0671, _RESNET),
    "resnet101": Published(0.0605, _RESNET),
    "resnet152": Published(0.0571, _RESNET),
    "inception_resnet_v2": Published(0.049, "Szegedy et al. 2016, table 2: one network, one crop"),
    "wide_resnet50_2": _torchvision("wide_resnet50_2, IMAGENET1K_V1", 5.914),
    "resnext50_32x4d": _torchvision("resnext50_32x4d, IMAGENET1K_V1", 6.302),
    "densenet121": Published(0.0771, "Huang et al. 2016, table 3: one crop"),
    "mobilenetv2_100": _torchvision("mobilenet_v2, IMAGENET1K_V1", 9.714),
    "mobilenetv3_large_100": _torchvision("mobilenet_v3_large, IMAGENET1K_V1", 8.66),
    "mobilenetv3_small_100": _torchvision("mobilenet_v3_small, IMAGENET1K_V1", 12.598),
    "efficientnet_b0": Published(0.067, _EFFICIENTNET),
    "efficientnet_b1": Published(0.056, _EFFICIENTNET),
    "efficientnet_b2": Published(0.051, _EFFICIENTNET),
    "efficientnet_b3": Published(0.043, _EFFICIENTNET),
    "efficientnet_b4": Published(0.036, _EFFICIENTNET),
    "tf_efficientnet_b5": Published(0.033, _EFFICIENTNET),
    "tf_efficientnet_b6": Published(0.032, _EFFICIENTNET),
    "tf_efficientnet_b7": Published(0.03, _EFFICIENTNET),
    "tf_efficientnet_lite0": Published(),
    "vit_tiny_patch16_224": Published(),
    "vit_small_patch16_224": Published(),
    "vit_base_patch16_224": _torchvision("vit_b_16, IMAGENET1K_V1", 4.682),
    "deit_tiny_patch16_224": Published(0.089, _DEIT, of_paper=False),
    "deit_small_patch16_224": Published(0.05, _DEIT, of_paper=False),
    "deit_base_patch16_224": Published(0.044, _DEIT, of_paper=False),
    "swin_tiny_patch4_window7_224": Published(0.045, _SWIN, of_paper=False),
    "swin_base_patch4_window7_224": Published(0.035, _SWIN, of_paper=False),
    "beit_base_patch16_224": Published(),
    "mocov3_vit_small": Published(),
    "mocov3_vit_base": Published(),
    "convnext_tiny": _torchvision("convnext_tiny, IMAGENET1K_V1", 3.854),
    "vit_small_patch14_dinov2": Published(),
}

# (the case, the network's name, why), for the guide.
GUIDE = (
    ("A first try", "resnet18", "small, fast and forgiving: it trains with any recipe"),
    (
        "Photographs, on a laptop without a GPU",
        "tf_efficientnet_lite0",
        "its ImageNet weights come with the app, and its frozen features are computed fast",
    ),
    ("Pictures of about 32 pixels", "resnet20", "made for them: its first layer does not shrink the picture"),
    ("A phone", "mobilenetv3_large_100", "designed for low latency on mobile processors"),
    ("A small file with good accuracy", "efficientnet_b0", "5 million parameters"),
    (
        "Few pictures per class",
        "resnet50",
        "its ImageNet features suit most photographs: fit only a head",
    ),
    ("The highest accuracy, with a GPU", "tf_efficientnet_b7", "images of 600 pixels; slow on a CPU"),
    ("To see attention", "deit_small_patch16_224", "Predict shows the heads of every layer"),
)
