"""What programs can ask of a comparison: `gradio_client`, plain HTTP, MCP."""

from collections.abc import Generator
from typing import Any

from gradio.events import api

from resnet_space.serve.context import AppContext
from resnet_space.serve.fitting import MINUTES, start_comparison
from resnet_space.serve.handlers import costly
from resnet_space.training.comparison import MOST_IMAGES, to_json
from resnet_space.ui.finetune.api import followed, own_key
from resnet_space.ui.finetune.more_data import DATASET


def build_compare_api(context: AppContext) -> None:
    """The endpoint /compare_models."""

    @costly
    def compare_models(
        dataset: str = DATASET,
        networks: list[str] | None = None,
        minutes: float = MINUTES,
        images: int = MOST_IMAGES,
        comparison: str = "",
        key: str = "",
    ) -> Generator[dict[str, Any], None, None]:
        """Judge networks on the training images of a dataset by cross-validation, and say which one to take.

        Every network computes its features once, and a head is solved on them; the test images are not looked at.
        The answer comes when all are judged. A comparison goes on where the caller leaves: ask again by its name.

        Args:
            dataset: the name from add_data, "cifar10-mini", or one of the Hub: "owner/name[@revision][#config]".
            networks: runs or ImageNet weights such as "resnet18.tv_in1k"; without any, those that fit the time.
            minutes: that networks which are not named may take in all, as far as that can be told beforehand.
            images: at most so many are used, each class in its share.
            comparison: the name of an earlier comparison, to be told how it stands; then all else is left out.
            key: a secret of yours; on a public app one is made where it is left out.

        Returns:
            The comparison's name, its state, a row for each network, which one to take and why, and the key.
        """
        key = own_key(context, key)
        name = comparison or start_comparison(context, dataset, key, names=networks or (), minutes=minutes, most=images)
        for found in followed(context.comparisons, name, lambda found: len(found.rows), once=bool(comparison)):
            yield {"comparison": name, "key": key} | to_json(found)

    api(compare_models, api_name="compare_models", concurrency_limit=2)
