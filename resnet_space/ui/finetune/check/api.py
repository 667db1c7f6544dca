"""What programs can ask of a check: `gradio_client`, plain HTTP, MCP."""

import time
from collections.abc import Generator
from typing import Any

from gradio.events import api

from resnet_space.serve.checks import RECOMMENDED, start_check
from resnet_space.serve.context import AppContext
from resnet_space.serve.handlers import costly
from resnet_space.ui.finetune.api import own_key
from resnet_space.ui.finetune.more_data import DATASET

POLL_SECONDS = 0.5


def build_check_api(context: AppContext) -> None:
    """The endpoint /check_data."""

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
        phase = None
        while True:
            found = context.checks.open(name)
            running = found.state == "running"
            if found.doing.phase != phase or not running:
                phase = found.doing.phase
                yield {"check": name, "key": key} | found.to_json()
            if not running or check:
                return
            time.sleep(POLL_SECONDS)

    api(check_data, api_name="check_data", concurrency_limit=2)
