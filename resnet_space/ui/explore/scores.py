"""What runs reached on their own test sets."""

from collections.abc import Mapping
from dataclasses import dataclass

from resnet_space.common.errors import UserError
from resnet_space.common.text import NO_BREAK, markdown_text
from resnet_space.runs import last_metric
from resnet_space.serve.context import AppContext
from resnet_space.training.evaluation import wilson_interval
from resnet_space.ui.explore.networks import RUN, Network
from resnet_space.ui.reports import share_words


@dataclass(frozen=True)
class Score:
    """A run's result on its own test set.

    Attributes:
        on: the test set, in words: "test images from cifar10".
        correct, images: counts.
    """

    on: str
    correct: int
    images: int

    @property
    def interval(self) -> tuple[float, float, float]:
        """(lower end, accuracy, upper end) at 95 %."""
        low, high = wilson_interval(self.correct, self.images)
        return low, self.correct / self.images, high

    @property
    def words(self) -> str:
        """ "74.4 % (73.5 to 75.2 %)"."""
        return share_words(self.correct, self.images, NO_BREAK)


def tested(context: AppContext, network: Network) -> Score | None:
    """What a run's metrics say of its last test; None for random weights, and where it was not tested."""
    if network.kind != RUN:
        return None
    try:
        run = context.library.open(network.name)
    except UserError:
        return None
    test = last_metric(context.library.metrics(run), "test")
    if test is None:
        return None
    on = f"{test.get('split', 'test')} images from {run.config.training.dataset}"
    return Score(on, round(test["accuracy"] * test["images"]), test["images"])


def accuracy_words(tests: Mapping[str, Score]) -> str:
    """The runs' test results, and what the first gains over the others on the same test set."""
    words = [
        f"**{markdown_text(label)}** classifies {test.correct:,} of {test.images:,} {markdown_text(test.on)} "
        f"correctly: {test.words}."
        for label, test in tests.items()
    ]
    (_, first), *others = tests.items()
    if any((other.on, other.images) != (first.on, first.images) for _, other in others):
        return " ".join([*words, "These test sets differ, so the accuracies are not comparable."])
    for label, other in others:
        gain = 100 * (first.interval[1] - other.interval[1])
        words.append(f"That is {abs(gain):.1f} points {'more' if gain >= 0 else 'less'} than {markdown_text(label)}.")
    return " ".join(words)
