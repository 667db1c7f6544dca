"""What the page is told of a review: the queue, its pictures, the summary, and what came of before and after."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from html import escape
from typing import Any

import numpy as np

from resnet_space.common.errors import UserError
from resnet_space.data.columns import labels_of
from resnet_space.data.decisions import Row, summary_words
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import open_dataset
from resnet_space.data.versions import judged_split, outcome
from resnet_space.serve.context import AppContext
from resnet_space.serve.reviews import SavedReview
from resnet_space.training.review import ReviewItem
from resnet_space.ui.finetune.data_view import TILE, images_at
from resnet_space.ui.finetune.status import duration
from resnet_space.ui.html import cautions_html, finding_html, note_html, progress_html
from resnet_space.ui.pictures import jpeg_url

LARGE = 640  # pixels of the picture that is decided about
EXAMPLES = 2  # pictures of a class
PHASES = {"decoding": "Decoding pictures", "features": "Computing features", "solving": "Fitting the head"}
NO_TEST_SPLIT = (
    "This dataset has no test pictures of its own: a training draws them from the training pictures, so decisions "
    "change some of those, too."
)


def whole(ref: DatasetRef, items: Mapping[str, ReviewItem], saved: SavedReview, name: str) -> dict[str, Any]:
    """The queue with all decisions, and the name that a new version would have."""
    dataset = open_dataset(ref)
    labels = {split: labels_of(files, dataset.columns) for split, files in dataset.files.items()}
    there = dict(items)
    for id_, one in saved.decisions.items():  # on pictures that were chosen earlier
        if id_ not in there:
            there[id_] = ReviewItem("chosen", one["split"], one["index"], one["file"], "", one["finding"])
    classes = dataset.columns.classes
    shown = []
    for id_, item in there.items():
        found = labels.get(item.split, np.array([]))
        if item.index >= len(found):
            continue
        label = int(found[item.index])
        shown.append(asdict(replace(item, label=classes[label] if label >= 0 else "")) | {"id": id_})
    return {
        "open": True,
        "dataset": str(ref),
        "title": ref.words,
        "classes": classes,
        "judged": judged_split(labels),
        "items": shown,
        "decisions": {id_: {"action": one["action"], "label": one["label"]} for id_, one in saved.decisions.items()},
        "name": name,
        "count": len(shown),
        "decided": len(saved.decisions),
    }


def pictures_of(ref: DatasetRef, rows: Iterable[Row], side: int = LARGE) -> dict[str, str]:
    """Addresses of pictures of at most `side` pixels by "split:row"; "" for those that cannot be decoded, or are not
    there.
    """
    from resnet_space.data.checks.tiles import contained

    wanted = list(rows)
    found = images_at(ref, wanted, partial(contained, side=side))
    urls = {f"{split}:{row}": jpeg_url(image.convert("RGB")) for (split, row), image in found.items()}
    return {f"{split}:{row}": urls.get(f"{split}:{row}", "") for split, row in wanted}


def examples(ref: DatasetRef, names: Sequence[str], suspect: Collection[Row]) -> dict[str, list[str]]:
    """Small training pictures of some classes, without those that something was found about."""
    dataset = open_dataset(ref)
    labels = labels_of(dataset.files["train"], dataset.columns)
    chosen: dict[str, list[Row]] = {}
    for name in names:
        if name in dataset.columns.classes:
            rows = np.flatnonzero(labels == dataset.columns.classes.index(name)).tolist()
            chosen[name] = [("train", row) for row in rows if ("train", row) not in suspect][:EXAMPLES]
    urls = pictures_of(ref, [row for rows in chosen.values() for row in rows], TILE)
    return {name: [url for split, row in rows if (url := urls[f"{split}:{row}"])] for name, rows in chosen.items()}


def summary_of(ref: DatasetRef, saved: SavedReview, clean: bool) -> dict[str, Any]:
    """What a new version would have otherwise, in words."""
    changes, own_test = outcome(str(ref), list(saved.decisions.values()), clean_test=clean)
    return {
        "words": summary_words(changes),
        "changed": sum(one.changed for one in changes),
        "note": "" if own_test else NO_TEST_SPLIT,
        "tested": any(one.split == own_test and one.action != "keep" for one in changes),
    }


def result_of(context: AppContext, saved: SavedReview, key: str | None) -> dict[str, Any]:
    """The version that was made last, and how its comparison with the old one stands, as far as they are there."""
    try:
        context.datasets.named(saved.version, key)
        made = {"made": saved.version, "result": None}
        found = context.reviews.open(saved.compared) if saved.compared else None
    except UserError:
        return {"made": "", "result": None}
    if found is None:
        return made
    if found.state == "running":
        now = found.doing
        html = progress_html(PHASES.get(now.phase, "Loading PyTorch"), share=now.share, label="compared")
    elif found.state == "finished":
        details = f"{found.learned[0]:,} and {found.learned[1]:,} pictures to learn from, features of {found.backbone}"
        note = f"A head on frozen features, {details}, {duration(found.seconds)}."
        html = finding_html(found.words) + note_html(escape(note))
    else:
        html = cautions_html(found.reason or "It was stopped.")
    return made | {"result": {"state": found.state, "html": html}}
