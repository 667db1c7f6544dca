"""Review what a check found, one picture after the other, and make a new version of the dataset from the decisions.

The page's script (`review.js`) draws the queue and holds what is not sent yet; a request has the decisions since the
last one and names the pictures that come next. So nothing of it is on the page before it is asked for.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from resnet_space.common.errors import UserError
from resnet_space.data.decisions import Manifest, PictureDecision, Row
from resnet_space.data.reference import SPLITS, DatasetRef
from resnet_space.data.sources import open_dataset
from resnet_space.data.versions import apply_decisions
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costs
from resnet_space.serve.inventory import SECRET_NAME
from resnet_space.serve.reviews import SavedReview, open_review, require_unchanged, save_review, start_before_after
from resnet_space.training.data_report import DataReport
from resnet_space.training.review import ReviewItem, review_queue
from resnet_space.ui.events import EACH, QUIET, Update
from resnet_space.ui.finetune.check.review_shown import examples, pictures_of, result_of, summary_of, whole
from resnet_space.ui.finetune.fields import Fields
from resnet_space.ui.finetune.more_data import bring
from resnet_space.ui.finetune.teach.requests import UNFIT, list_in
from resnet_space.ui.html import place_html
from resnet_space.ui.scripts import REVIEW
from resnet_space.ui.subject import Shared

COST = 1 / 16  # of a prediction's, for each request: a decision, and the next pictures
MOST_AT_ONCE = 500  # decisions in a request
MOST_PICTURES = 16  # in an answer
MOST_CLASSES = 8  # whose examples are in an answer
MOST_CHOSEN = 2_000  # pictures that are brought from outside the check
CHOSEN = "Chosen on the map."
VERSION = re.compile(r"-v(\d+)$")


@dataclass(frozen=True)
class Asked:
    """A request of the page.

    Attributes:
        number: by which the page knows its answer.
        dataset: that it reviews; "" for that of the check.
        opens: whether all of the queue is wanted.
        chosen: pictures to be looked at besides.
        decide: decisions by the id of their item: {"id", "action", "label"}; without an action it is taken back.
        want: pictures, "train:5".
        lack: classes of which examples are wanted.
        ends: whether the summary is wanted.
        clean: whether test pictures are to be changed, too.
        make: the name of the version that is to be made, "" for none.
        train: whether both versions are to be compared.
        look: whether that is under way.
        stop: whether it is to be stopped.
    """

    number: int
    dataset: str
    opens: bool
    chosen: tuple[Row, ...]
    decide: tuple[dict[str, Any], ...]
    want: tuple[Row, ...]
    lack: tuple[str, ...]
    ends: bool
    clean: bool
    make: str
    train: bool
    look: bool
    stop: bool

    @classmethod
    def of(cls, data: object) -> "Asked":
        """Raises UserError for anything that no page sends."""
        asked = data if isinstance(data, dict) else {}
        number, dataset, make = asked.get("number"), asked.get("dataset") or "", asked.get("make") or ""
        if type(number) is not int or not isinstance(dataset, str) or not isinstance(make, str):
            raise UserError(UNFIT)
        if isinstance(wanted := asked.get("chosen"), list) and len(wanted) > MOST_CHOSEN:
            count = f"{len(wanted):,}"
            raise UserError(f"At most {MOST_CHOSEN:,} pictures can be reviewed at once, not {count}: choose fewer.")
        chosen = [(one.get("split"), one.get("index")) for one in list_in(asked, "chosen", dict, MOST_CHOSEN)]
        if not all(split in SPLITS and type(index) is int for split, index in chosen):
            raise UserError(UNFIT)
        return cls(
            number=number,
            dataset=dataset,
            opens=bool(asked.get("open")),
            chosen=tuple(chosen),
            decide=tuple(list_in(asked, "decide", dict, MOST_AT_ONCE)),
            want=tuple(_row(text) for text in list_in(asked, "want", str, MOST_PICTURES)),
            lack=tuple(list_in(asked, "lack", str, MOST_CLASSES)),
            ends=bool(asked.get("end")),
            clean=bool(asked.get("clean")),
            make=make,
            train=bool(asked.get("train")),
            look=bool(asked.get("look")),
            stop=bool(asked.get("stop")),
        )


def _row(text: str) -> Row:
    split, _, index = text.partition(":")
    if split not in SPLITS or not index.isdecimal() or len(index) > 12:
        raise UserError(UNFIT)
    return split, int(index)


def version_name(dataset: str) -> str:
    """The name that is proposed: "ants-v2" of "ants", "ants-v3" of that."""
    plain = SECRET_NAME.sub("", DatasetRef.parse(dataset).name.rpartition("/")[2])
    found = VERSION.search(plain)
    return f"{plain[: found.start()]}-v{int(found[1]) + 1}" if found else f"{plain}-v2"


def make_version(
    context: AppContext,
    dataset: str,
    decisions: Sequence[PictureDecision | Mapping[str, Any]],
    name: str,
    key: str | None,
    *,
    clean_test: bool = False,
    by: str = "",
) -> Manifest:
    """A visitor's new version of a dataset that they may use, under a free name like the one that is wanted.

    Raises:
        UserError: as `apply_decisions`; then nothing is left.
    """
    context.require_writable()
    ref = context.datasets.named(dataset, key)
    size = sum(file.stat().st_size for files in open_dataset(ref).files.values() for file in files)
    context.storage.room_for(2 * size, "The new version", context.datasets.folder)
    title = name.strip() or version_name(str(ref))
    _, manifest = bring(
        context,
        title,
        key,
        lambda to: apply_decisions(str(ref), decisions, to.name, clean_test=clean_test, by=by, folder=to),
    )
    return manifest


def place_review(context: AppContext) -> gr.HTML:
    """The place of the queue, empty until a check has findings."""
    visible = not context.readonly
    return place_html(None, "review.mount", inside="review", head=REVIEW, elem_id="review", visible=visible)


def wire_review(review: gr.HTML, shared: Shared, form: Fields, check: gr.Textbox, drawn: gr.State) -> None:
    """Wire the queue's events.

    Args:
        review: its place.
        form: whose dataset is reviewed where there is no check; the new version is chosen in it.
        check: the name of the check whose findings are reviewed; `drawn` changes when these are shown.
    """
    context, visitor = shared.context, shared.visitor

    def on_drawn(name: str | None, key: str | None) -> dict[str, Any] | None:
        """What the button says before anything is opened."""
        report = context.checks.open(name) if name else None
        if report is None or report.state == "running":
            return None
        queue = review_queue(report)
        try:
            decided = len(open_review(context, context.datasets.named(report.dataset, key), key).decisions)
        except UserError:  # it was deleted, or is another visitor's
            return None
        return {"number": 0, "count": len(queue), "decided": decided}

    @costs(COST)
    def on_ask(
        name: str | None, chosen: str, key: str | None, profile: gr.OAuthProfile | None, event: gr.EventData
    ) -> Update:
        asked = Asked.of(event._data)
        context.require_writable()
        report = context.checks.open(name) if name else None
        ref = context.datasets.named(asked.dataset or (report.dataset if report else chosen), key)
        if report is not None and report.dataset == str(ref):
            require_unchanged(ref, report.created)
        else:
            report = None
        items = items_of(report, asked)
        saved = open_review(context, ref, key)
        if asked.decide:
            saved = save_review(context, ref, key, lambda review: _decide(review, items, asked))
        value: dict[str, Any] = {"number": asked.number, "decided": len(saved.decisions)}
        if asked.opens:
            value |= whole(ref, items, saved, version_name(str(ref)))
        update: Update = {}
        if asked.make:
            made = make_version(
                context,
                str(ref),
                list(saved.decisions.values()),
                asked.make,
                key,
                clean_test=asked.clean,
                by=profile.username if profile else "",
            )
            saved = save_review(context, ref, key, lambda review: vars(review).update(version=made.name, compared=""))
            update[form.data.added] = made.name
        if asked.train:
            compared = start_before_after(context, saved.version, key)
            saved = save_review(context, ref, key, lambda review: vars(review).update(compared=compared))
        if asked.stop:
            context.reviews.stop(saved.compared, key)
        if asked.ends or asked.make:
            value["summary"] = summary_of(ref, saved, asked.clean)
        if asked.opens or asked.make or asked.train or asked.look or asked.stop:
            value |= result_of(context, saved, key)
        if asked.want:
            value["pictures"] = pictures_of(ref, asked.want)
        if asked.lack:
            value["examples"] = examples(ref, asked.lack, {(one.split, one.index) for one in items.values()})
        return {review: value} | update

    if context.readonly:
        return
    drawn.change(on_drawn, [check, visitor], review, **QUIET)
    asked = [check, form.dataset, visitor]
    answered = review.submit(on_ask, asked, [review, form.data.added], concurrency_limit=4, **QUIET | EACH)
    answered.failure(None, None, None, js="() => resnetSpace.review.failed()", **QUIET)


def items_of(report: DataReport | None, asked: Asked) -> dict[str, ReviewItem]:
    """What there is to decide about, by id: the findings, and the pictures that were chosen."""
    queue = review_queue(report) if report is not None else []
    there = {(one.split, one.index) for one in queue}
    ids = [str(one.get("id")) for one in asked.decide]
    rows = [*asked.chosen, *(_row(id_.removeprefix("chosen:")) for id_ in ids if id_.startswith("chosen:"))]
    chosen = [
        ReviewItem("chosen", split, index, "", "", CHOSEN)
        for split, index in dict.fromkeys(rows)
        if (split, index) not in there
    ]
    return {one.id: one for one in (*chosen, *queue)}


def _decide(review: SavedReview, items: Mapping[str, ReviewItem], asked: Asked) -> None:
    for one in asked.decide:
        item = items.get(str(one.get("id")))
        if item is None:
            raise UserError(UNFIT)
        if not one.get("action"):
            review.decisions.pop(item.id, None)
            continue
        about = {"split": item.split, "index": item.index, "file": item.file}
        about |= {"finding": item.words, "score": item.score, "of_split": item.of_split, "of_index": item.of_index}
        decision = PictureDecision.of(about | {"action": one["action"], "label": one.get("label") or ""})
        review.decisions[item.id] = vars(decision)
