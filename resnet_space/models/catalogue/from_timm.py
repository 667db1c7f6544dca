"""Networks that timm builds, with the weights that its installed version names.

Parameters, multiply-adds and depth were counted on timm 1.0's networks. The repositories, licences, sizes and means are
those of timm's own list; accuracies are torchvision's where the weights are (.tv_), the papers' for Swin and BEiT, else
those of timm's results-imagenet.csv (August 2026).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from resnet_space.common.imagenet import IMAGENET_MEAN, IMAGENET_STD
from resnet_space.models.registry import STEM_SIZE, Option, Options, Pretrained, register
from resnet_space.models.timm_networks import timm_entry

HALF = (0.5, 0.5, 0.5)  # the mean and standard deviation that some weights take
VGG, INCEPTION, INCEPTION_RESNET = "1409.1556", "1512.00567", "1602.07261"
DENSENET, MOBILENET2, MOBILENET3, EFFICIENTNET = "1608.06993", "1801.04381", "1905.02244", "1905.11946"
SWIN, BEIT = "2103.14030", "2106.08254"


def _register(
    name: str,
    label: str,
    family: str,
    year: int,
    paper: str,
    depth: int,
    parameters: int,
    multiply_adds: int,
    blocks: tuple[int, ...],
    weights: str = "",
    *,
    head: str = "classifier",
    pixels: int = 224,
    crop: float = 0.875,
    half: bool = False,
    accuracy: float | None = None,
    licence: str = "apache-2.0",
    trained_on: str = "imagenet-1k",
    maps: bool = True,
    activations: int = 0,
    options: Mapping[str, Option] = MappingProxyType({}),
    small_images: Options = MappingProxyType({}),
    small_strategy: str = "",
    least: int = 8,
    fixed: bool = False,
    **arguments: Any,
) -> None:
    """`crop`: the share of the resized image's side that the network sees; `half`: whether mean and
    deviation are; `arguments`: of timm's, beside the name.
    """
    mean, std = (HALF, HALF) if half else (IMAGENET_MEAN, IMAGENET_STD)
    tagged = f"{name}.{weights}"
    found = Pretrained(tagged, f"timm/{tagged}", int(pixels / crop), licence, trained_on, accuracy, mean, std)
    register(
        timm_entry(
            name,
            arguments,
            family=family,
            year=year,
            paper=f"https://arxiv.org/abs/{paper}",
            depth=depth,
            parameters=parameters,
            multiply_adds=multiply_adds,
            head=head,
            blocks=blocks,
            pretrained=(found,) if weights else (),
            maps=maps,
            label=label,
            pixels=pixels,
            activations=activations,
            options=options,
            small_images=small_images,
            small_strategy=small_strategy,
            least=least,
            fixed=fixed,
        )
    )


# Its hidden layers, 119 of 138 million parameters, are made for 7 x 7 positions; small images leave one.
_HIDDEN = {"hidden": Option("Hidden layers", True, {True: "", False: "without hidden layers"})}
_STEM = {"stem": STEM_SIZE}

_register(
    "vgg16", "VGG-16", "vgg", 2014, VGG, 16, 138_357_544, 15_470_264_320, (1, 2, 3, 3, 3), "tv_in1k", head="head.fc",
    accuracy=0.71592, licence="bsd-3-clause", activations=27_100_000, least=32, options=_HIDDEN,
    small_images={"hidden": False}, small_strategy="last-stage",
)  # fmt: skip
_register(
    "inception_v3", "Inception V3", "inception", 2015, INCEPTION, 95, 23_834_568, 5_713_216_096, (1,) * 12, "tv_in1k",
    head="fc", pixels=299, half=True, accuracy=0.77294, least=75,
)  # fmt: skip
_register(
    "inception_resnet_v2", "Inception-ResNet V2", "inception", 2016, INCEPTION_RESNET, 245, 55_843_464, 13_155_794_016,
    (1,) * 44, "tf_in1k", head="classif", pixels=299, crop=0.8975, half=True, accuracy=0.80434, activations=50_100_000,
    least=75,
)  # fmt: skip
_register(
    "densenet121", "DenseNet-121", "densenet", 2016, DENSENET, 121, 7_978_856, 2_834_161_664, (6, 12, 24, 16, 1),
    "tv_in1k", accuracy=0.74434,
)  # fmt: skip
_register(
    "mobilenetv2_100", "MobileNetV2", "mobilenet", 2018, MOBILENET2, 53, 3_504_872, 300_774_272, (1, 2, 3, 4, 3, 3, 1),
    "ra_in1k", accuracy=0.7291, options=_STEM, small_images={"stem": "cifar"},
)  # fmt: skip
_register(
    "mobilenetv3_large_100", "MobileNetV3-Large", "mobilenet", 2019, MOBILENET3, 64, 5_483_032, 216_589_760,
    (1, 2, 3, 4, 2, 3, 1, 1), "ra_in1k", accuracy=0.75784, options=_STEM, small_images={"stem": "cifar"},
)  # fmt: skip
_register(
    "mobilenetv3_small_100", "MobileNetV3-Small", "mobilenet", 2019, MOBILENET3, 54, 2_542_856, 56_510_400,
    (1, 2, 3, 2, 3, 1, 1), "lamb_in1k", accuracy=0.67636, options=_STEM, small_images={"stem": "cifar"},
)  # fmt: skip
for _name, _weights, _percent, _depth, _parameters, _multiply_adds, _blocks, _pixels, _crop, _millions in (
    ("efficientnet_b0", "ra_in1k", 77.698, 82, 5_288_548, 385_814_752, (1, 2, 2, 3, 3, 4, 1), 224, 0.875, 0),
    ("efficientnet_b1", "ft_in1k", 77.592, 116, 7_794_184, 569_651_680, (2, 3, 3, 4, 4, 5, 2), 224, 0.875, 0),
    ("efficientnet_b2", "ra_in1k", 79.324, 116, 9_109_994, 859_853_760, (2, 3, 3, 4, 4, 5, 2), 256, 0.875, 26),
    ("efficientnet_b3", "ra2_in1k", 81.472, 131, 12_233_232, 1_589_198_096, (2, 3, 3, 5, 5, 6, 2), 288, 0.875, 43),
    ("efficientnet_b4", "ra2_in1k", 82.658, 161, 19_341_616, 3_063_687_008, (2, 4, 4, 6, 6, 8, 2), 320, 0.875, 70),
    ("tf_efficientnet_b5", "ra_in1k", 83.834, 195, 30_389_784, 10_266_384_752, (3, 5, 5, 7, 7, 9, 3), 456, 0.934, 198),
    ("tf_efficientnet_b6", "aa_in1k", 84.124, 225, 43_040_704, 19_067_593_536, (3, 6, 6, 8, 8, 11, 3), 528, 0.942, 335),
    (
        "tf_efficientnet_b7",
        "ra_in1k",
        84.926,
        274,
        66_347_960,
        37_745_884_192,
        (4, 7, 7, 10, 10, 13, 4),
        600,
        0.949,
        580,
    ),
):
    _label = f"EfficientNet-{_name[-2:].upper()}"
    _register(
        _name, _label, "efficientnet", 2019, EFFICIENTNET, _depth, _parameters, _multiply_adds, _blocks, _weights,
        pixels=_pixels, crop=_crop, accuracy=_percent / 100, activations=_millions * 1_000_000,
    )  # fmt: skip
_register(  # its weights come with the app
    "tf_efficientnet_lite0", "EfficientNet-Lite0", "efficientnet", 2020, EFFICIENTNET, 50, 4_652_008, 385_187_552,
    (1, 2, 2, 3, 3, 4, 1),
)  # fmt: skip
_register(
    "swin_tiny_patch4_window7_224", "Swin-Tiny", "swin", 2021, SWIN, 53, 28_288_354, 4_490_566_656, (2, 2, 6, 2, 1),
    "ms_in1k", head="head.fc", crop=0.9, accuracy=0.813, licence="mit", maps=False, activations=26_900_000,
    dynamic_img_size=True,
)  # fmt: skip
_register(
    "swin_base_patch4_window7_224", "Swin-Base", "swin", 2021, SWIN, 101, 87_768_224, 15_430_946_816, (2, 2, 18, 2, 1),
    "ms_in1k", head="head.fc", crop=0.9, accuracy=0.835, licence="mit", maps=False, activations=57_500_000,
    dynamic_img_size=True,
)  # fmt: skip
_register(  # its biases for relative positions belong to 14 x 14 patches
    "beit_base_patch16_224", "BEiT-Base", "beit", 2021, BEIT, 50, 86_530_984, 17_563_828_224, (3, 3, 3, 3),
    "in22k_ft_in22k_in1k", head="head", crop=0.9, half=True, accuracy=0.852, maps=False, fixed=True,
    trained_on="imagenet-22k",
)  # fmt: skip
