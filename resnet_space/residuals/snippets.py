"""The lines of Python that reproduce a view."""

from typing import Literal

View = Literal["norms", "direction", "responses", "lesions", "readings", "gradients", "pictures", "growth"]

# What is imported besides, what is measured, and what is printed; `images` and `labelled` are batches.
_LINES: dict[View, tuple[str, str, str]] = {
    "norms": ("measure", "last(measure(model, images))", "found.norms.blocks, found.norms.ratio.median(1).values"),
    "direction": ("measure", "last(measure(model, images))", "found.norms.blocks, found.cosine.median(1).values"),
    "responses": ("measure", "last(measure(model, images))", "found.responses.layers, found.responses.std"),
    "lesions": (
        "lesioned, single_drops",
        "last(lesioned(model, labelled, single_drops(model)))",
        "found.base_accuracy, [(*lesion.blocks, a.item()) for lesion, a in zip(found.lesions, found.accuracy)]",
    ),
    "readings": ("early_readings", "last(early_readings(model, labelled))", "found.blocks, found.accuracy"),
    "gradients": (
        "gradients",
        "last(gradients(model, labelled))",
        "found.blocks, found.norm.median(1).values, found.alignment.median(1).values",
    ),
    "pictures": (
        "block_pictures",
        "block_pictures(model, next(iter(images))[:1], {block!r}, {channel})",
        "found.x.shape, found.low, found.high, found.residual",
    ),
    "growth": ("recorded_growth", "recorded_growth(run.metrics())", "found.epochs, found.blocks, found.quartiles"),
}


def snippet(
    view: View,
    run: str,
    *,
    dataset: str = "cifar10-mini",
    split: str = "test",
    images: int = 64,
    picture: str | None = None,
    block: str = "",
    channel: int | None = None,
) -> str:
    """A few lines that print the numbers behind a view, as they would be run in the repository's folder.

    Args:
        view: "norms" stands for the norms and the ratio by depth.
        run: its name.
        dataset, split, images: what was measured.
        picture: a file's name instead of these, for a picture of one's own; not for views that need labels.
        block, channel: of the pictures.
    """
    names, measured, printed = _LINES[view]
    needs_labels = "labelled" in measured
    start = f"run = Run.open({f'checkpoints/{run}'!r})"
    imports = [f"from resnet_space.residuals import {names}", "from resnet_space.runs import Run"]
    measured = measured.format(block=block, channel=channel)
    if view == "growth":
        return "\n".join([*imports, "", start, f"found = {measured}", f"print({printed})", ""])
    if picture is not None and not needs_labels:
        imports = [
            "from PIL import Image",
            "from resnet_space.inference import Classifier",
            f"from resnet_space.residuals import {_sorted(names, 'last')}",
            "from resnet_space.runs import Run",
        ]
        prepared = [
            f"run = Classifier(Run.open({f'checkpoints/{run}'!r}))",
            f"model, images = run.model, [run.prepare([Image.open({picture!r}).convert('RGB')])]",
        ]
    else:
        imports[0] = f"from resnet_space.residuals import {_sorted(names, 'last', 'probe', 'probe_batches')}"
        batches = f"probe_batches(probe({dataset!r}, {split!r}, {images}, run.config.model), run.config.model)"
        prepared = [
            start,
            "model = run.load_model()",
            f"labelled = list({batches})",
            *([] if needs_labels else ["images = [batch for batch, _ in labelled]"]),
        ]
    if view == "pictures":
        imports = [line.replace(", last", "") for line in imports]
    return "\n".join([*imports, "", *prepared, f"found = {measured}", f"print({printed})", ""])


def _sorted(names: str, *more: str) -> str:
    return ", ".join(sorted([*names.split(", "), *more]))
