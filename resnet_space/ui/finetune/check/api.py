"""What programs can ask of a check and a review: `gradio_client`, plain HTTP, MCP."""

from collections.abc import Generator
from dataclasses import asdict
from typing import Any

import gradio as gr
from gradio.events import api

from resnet_space.serve.checks import RECOMMENDED, start_check
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.serve.reviews import start_before_after
from resnet_space.ui.finetune.api import followed, own_key
from resnet_space.ui.finetune.check.review import make_version
from resnet_space.ui.finetune.more_data import DATASET


def build_check_api(context: AppContext) -> None:
    """The endpoints /check_data and /clean_data."""

    @costly
    def check_data(
        dataset: str = DATASET, backbone: str = RECOMMENDED, check: str = "", key: str = "", map: bool = False
    ) -> Generator[dict[str, Any], None, None]:
        """Find labels that are probably wrong, copies of one picture, odd pictures, and classes that look alike.

        The answer comes when all is checked; nothing is changed. A check goes on where the caller leaves: ask again by
        its name.

        Args:
            dataset: the name from add_data, "cifar10-mini", or one of the Hub: "owner/name[@revision][#config]".
            backbone: the run whose network computes the features; without one, the shipped one that suits the pictures.
            check: the name of an earlier check, to be told how it stands; then all else is left out.
            key: a secret of yours; on a public app one is made where it is left out.
            map: whether to place the pictures on a plane by their features, too.

        Returns:
            The check's name, its state, `label_issues`, `near_duplicates`, `outliers` and `classes`, the most urgent
            first, each with split, index, file, score and a sentence, how many labels are expected to be wrong, and the
            key; with a map, in `map`, at most 10,000 pictures, each with its label, its predicted class, x and y.
        """
        key = own_key(context, key)
        name = check or start_check(context, dataset, key, backbone=backbone, mapped=map)
        for found in followed(context.checks, name, lambda found: found.doing.phase, once=bool(check)):
            yield {"check": name, "key": key} | found.to_json()

    @costly
    def clean_data(
        dataset: str = DATASET,
        decisions: list[dict[str, Any]] | None = None,
        name: str = "",
        clean_test: bool = False,
        compare: bool = False,
        key: str = "",
        profile: gr.OAuthProfile | None = None,
    ) -> dict[str, Any]:
        """Make a new version of a dataset from decisions about its pictures; the old one stays.

        An action is "keep", "relabel", "drop", or "same", by which one of two copies is dropped, never the test picture
        of the two; then "of_split" and "of_index" name the other. What a finding of check_data has besides, "file",
        "score" and its sentence as "finding", is kept in the manifest.

        Args:
            dataset: as of check_data.
            decisions: such as {"split": "train", "index": 5, "action": "relabel", "label": "cat"}, one per picture.
            name: of the new dataset; "-v2" is added to the old name where it is left out.
            clean_test: whether test pictures are changed, too; then results cannot be compared with earlier ones.
            compare: whether a head is trained on both versions and judged on the same test pictures.
            key: a secret of yours; on a public app one is made where it is left out.

        Returns:
            The new dataset's name, to train with; the manifest: what was changed, in which files; a summary; with
            compare, both accuracies and the paired interval of their difference; and the key.
        """
        key = own_key(context, key)
        by = profile.username if profile else ""
        manifest = make_version(context, dataset, decisions or [], name, key, clean_test=clean_test, by=by)
        answer = {"dataset": manifest.name, "words": manifest.words, "manifest": asdict(manifest), "key": key}
        if compare:
            comparison = start_before_after(context, manifest.name, key)
            *_, found = followed(context.reviews, comparison, lambda found: found.state)
            answer["comparison"] = found.to_json()
        return answer

    api(check_data, api_name="check_data", concurrency_limit=2)
    api(clean_data, api_name="clean_data", concurrency_limit=2)
