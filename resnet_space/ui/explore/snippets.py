"""The lines of Python that make a view's numbers again, in the folder of the app: of a run, and of what is none."""

from collections.abc import Sequence
from pathlib import Path

from resnet_space.ui.explore.images import Images
from resnet_space.ui.explore.subjects import UNTRAINED, torchvision_name

# View -> (what is imported, what is measured, what is printed of it), where `model`, `batches` and `images` are there.
LINES = {
    "norms": (
        "last, measure",
        "last(measure(model, images))",
        "found.norms.blocks, found.norms.ratio.quantile(0.5, dim=1)",
    ),
    "before-gate": (
        "last, measure",
        "last(measure(model, images))",
        "found.norms.blocks, (found.before_gate / found.norms.shortcut).quantile(0.5, dim=1)",
    ),
    "direction": (
        "last, measure",
        "last(measure(model, images))",
        "found.norms.blocks, found.cosine.quantile(0.5, dim=1)",
    ),
    "responses": ("last, measure", "last(measure(model, images))", "found.responses.layers, found.responses.std"),
    "lesion": (
        "last, lesioned, single_drops",
        "last(lesioned(model, batches, single_drops(model)))",
        "found.base_accuracy, [lesion.blocks for lesion in found.lesions], found.accuracy",
    ),
    "early": ("early_readings, last", "last(early_readings(model, batches))", "found.blocks, found.accuracy"),
    "gradient": (
        "gradients, last",
        "last(gradients(model, batches))",
        "found.blocks, found.norm.quantile(0.5, dim=1), found.alignment.quantile(0.5, dim=1)",
    ),
    "pictures": (
        "block_pictures",
        "block_pictures(model, torch.cat(images)[{index}][None], {block!r}, {channel})",
        "found.shortcut, found.residual, found.sum",
    ),
}


def python_lines(view: str, subject: str, images: Images, **more: object) -> str | None:
    """The lines for one network; None where the view has none.

    Args:
        view: its key, in `LINES` where it has lines.
        subject: the network's name on the page.
        images: which. Pictures of one's own have the names under which they were sent.
        more: of the pictures, their `block`, `channel` and `index`, the image's place among the measured ones.
    """
    if view not in LINES:
        return None
    names, measured, printed = LINES[view]
    imports, network = _network(subject)
    more_imports, batches = _batches(images, labelled="batches" in measured)
    used = sorted([*names.split(", "), *([] if images.files else ["probe", "probe_batches"])])
    imports = sorted([*imports, *more_imports, f"from resnet_space.residuals import {', '.join(used)}"])
    torch = ["import torch"] if "torch." in measured + batches[0] else []
    return "\n".join(
        [*torch, *imports, "", *network, *batches, f"found = {measured.format(**more)}", f"print({printed})", ""]
    )


def several_lines(view: str, subjects: Sequence[str], images: Images) -> str | None:
    """The lines for several networks, one after the other; None where the view has none."""
    lines = [python_lines(view, subject, images) for subject in subjects]
    return None if None in lines else "\n".join(filter(None, lines))


def growth_lines(run: str) -> str:
    return "\n".join(
        [
            "from resnet_space.residuals import recorded_growth",
            "from resnet_space.runs import Run",
            "",
            f"found = recorded_growth(Run.open({f'checkpoints/{run}'!r}).metrics())",
            "print(found.epochs, found.blocks, found.quartiles)",
            "",
        ]
    )


def _network(subject: str) -> tuple[list[str], list[str]]:
    """(imports, lines) that make `model` and `config`."""
    if (architecture := torchvision_name(subject)) is not None:
        imports = ["from resnet_space.config import imagenet_config"]
        return imports, [f"config = imagenet_config({architecture!r})", "model = config.build(seed=0).eval()"]
    imports = ["from resnet_space.runs import Run"]
    run = f"run = Run.open({f'checkpoints/{subject.removesuffix(UNTRAINED)}'!r})"
    if subject.endswith(UNTRAINED):
        imports.append("from resnet_space.training.state import model_with")
        return imports, [run, "model, config = model_with(run.config, None)[0].eval(), run.config.model"]
    return imports, [run, "model, config = run.load_model(), run.config.model"]


def _batches(images: Images, *, labelled: bool) -> tuple[list[str], list[str]]:
    """(imports, lines) that make `batches`, of images and labels, or `images` alone."""
    if images.files:
        names = [Path(file).name for file in images.files]
        imports = [
            "from resnet_space.data.batches import centre_crop, normalise",
            "from resnet_space.data.images import open_image, to_model_size",
            "from torchvision.transforms.functional import pil_to_tensor",
        ]
        stored = f"[pil_to_tensor(to_model_size(open_image(name), config.stored_size)) for name in {names!r}]"
        return imports, [
            f"pixels = torch.stack({stored}).permute(0, 2, 3, 1)",
            "images = [normalise(centre_crop(pixels, config.image_size), config)]",
        ]
    batches = f"probe_batches(probe({images.dataset!r}, {images.split!r}, {images.count}, config), config)"
    return [], [f"batches = {batches}"] if labelled else [f"images = [batch for batch, _ in {batches}]"]
