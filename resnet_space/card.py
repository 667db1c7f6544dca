"""The model card of a run: its `README.md` and the figures in it, generated from its configuration and metrics."""

import json
from dataclasses import replace

from resnet_space.config import TrainConfig
from resnet_space.runs import CARD, FIGURES, Metric, Run, last_metric, replaced_atomically, split_words
from resnet_space.text import markdown_text

CURVES = f"{FIGURES}/learning_curves.png"


def write_card(run: Run) -> None:
    """Write or replace the run's card and its figures."""
    for name, content in card_files(run).items():
        with replaced_atomically(run.path / name) as file:
            file.write_bytes(content)


def card_files(run: Run, *, repo_id: str | None = None, space: str | None = None) -> dict[str, bytes]:
    """The card and its figures, by their names in the run's folder.

    Args:
        run: trained or not.
        repo_id: where on the Hub it is, or will be: its own lines of Python then pull it.
        space: the Space to link to.
    """
    from resnet_space.figures import learning_curves, png  # brings matplotlib

    metrics = run.metrics()
    return {CURVES: png(learning_curves(metrics)), CARD: card_text(run, metrics).encode()}


def card_text(run: Run, metrics: list[Metric]) -> str:
    """The card in Markdown, with the Hub's front matter."""
    model, training = run.config.model, run.config.training
    start = last_metric(metrics, "start")
    epochs = [m for m in metrics if m["event"] == "epoch"]
    test = last_metric(metrics, "test")

    results = ["It was not trained to the end, so it was not tested."]
    if test:
        what = split_words(test["split"])
        results = [
            f"Top-1 accuracy **{test['accuracy']:.2%}** on the {test['images']:,} {what} images of "
            f"`{training.dataset}`, which took no part in training or in the choice of the epoch."
        ]
    if epochs:
        best = max(epochs, key=lambda m: m["validation_accuracy"])
        results.append(
            f"Best epoch: {best['epoch']} of {training.epochs}, with {best['validation_accuracy']:.2%} on the "
            f"{start['validation_images'] if start else ''} validation images."
        )
    beginning = f"from the weights of `{training.start}`" if training.start else "from random initialisation"
    hardware = f" on {start['device']} in {start['precision']}" if start else ""
    took = f" It took {test['seconds'] / 60:.1f} minutes{hardware}." if test else ""
    cbam = {None: "no CBAM", "stage": "CBAM after every stage", "block": "CBAM inside every block"}[model.cbam]
    more = f" and {len(model.classes) - 12} more" if len(model.classes) > 12 else ""
    classes = ", ".join(map(markdown_text, model.classes[:12]))
    changed = _changed(training)
    differs = f"What differs from the defaults:\n\n```json\n{json.dumps(changed, indent=2)}\n```" if changed else ""
    return f"""---
library_name: resnet_space
pipeline_tag: image-classification
license: mit
tags: [resnet_space, resnet{", cbam" if model.cbam else ""}]
---

# {run.name}

{model.architecture} with {cbam}, {f"{start['parameters']:,} parameters, " if start else ""}for {len(model.classes)} \
classes ({classes}{more}). It sees images of {model.image_size} x {model.image_size} pixels.

{chr(10).join(results)}

![Loss by iteration and accuracy by epoch]({CURVES})

## Training

{training.epochs} epochs of `{training.dataset}` {beginning}.{took} {differs or "All settings are the defaults."}

`config.json` has all of it; `python -m resnet_space.train` repeats it.

## Use

```python
from PIL import Image
from resnet_space.inference import Classifier
from resnet_space.runs import Run

print(Classifier(Run.open("{run.name}")).predict(Image.open("picture.jpg").convert("RGB")))
```
"""


def _changed(training: TrainConfig) -> dict[str, object]:
    plain = replace(TrainConfig(dataset=training.dataset), start=training.start)
    return {name: value for name, value in vars(training).items() if value != getattr(plain, name)}
