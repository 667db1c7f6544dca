"""Before and after a review: `python -m resnet_space.review VERSION`, or `before_and_after` from Python."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from resnet_space.common.hardware import keep_threads_apart

if __name__ == "__main__":
    keep_threads_apart()  # which is read when torch is imported

from resnet_space.check import backbone_for
from resnet_space.common.command import in_one_sentence
from resnet_space.data.reference import DatasetRef
from resnet_space.training import work
from resnet_space.training.before_after import Judging
from resnet_space.training.feature_store import FeatureStore
from resnet_space.training.review import BeforeAfter
from resnet_space.training.speeds import machine_words


def before_and_after(
    version: str,
    *,
    backbone: str | Path | None = None,
    runs: str | Path = "checkpoints",
    tell: Callable[[BeforeAfter], None] = lambda _: None,
) -> BeforeAfter:
    """Train the same head on a dataset and on a version that `apply_decisions` made of it; judge both on the same test
    pictures, with their old labels unless the version's test pictures were cleaned, too.

    Args:
        version: the new dataset's name.
        backbone: as of `check_data`.
        runs: the folder of runs, beside which features are cached.
        tell: called with how far it is, now and then.

    Returns:
        Both accuracies, and the interval of their difference, paired by picture.

    Raises:
        UserError: for a dataset that is no version, or whose source is gone or has changed.
    """
    root = Path(runs)
    asked = BeforeAfter(dataset=version, machine=machine_words(), created=round(time.time(), 1))
    run = backbone_for(root, DatasetRef.parse(version), backbone)
    return Judging(asked, run, FeatureStore.beside(root)).done(tell)


def finish(folder: Path) -> int:
    """Do what a folder asks for, and write there what came of it. Returns the process's exit status."""
    root, asked = folder.parent.parent, BeforeAfter.read(folder)
    ref, store = DatasetRef.parse(asked.dataset), FeatureStore.beside(root)
    return work.finish(folder, asked, lambda: Judging(asked, backbone_for(root, ref, asked.backbone), store, folder))


@in_one_sentence
def main() -> int:
    parser = work.parser_of(BeforeAfter, "Compare a reviewed dataset with the one that it came from.")
    parser.add_argument("version", metavar="VERSION", help="the new dataset")
    parser.add_argument("--backbone", metavar="RUN", help="whose network computes the features")
    arguments = parser.parse_args()
    if arguments.folder:
        return finish(Path(arguments.version).absolute())
    print(before_and_after(arguments.version, backbone=arguments.backbone, runs=arguments.runs).words)
    return 0


if __name__ == "__main__":
    sys.exit(main())
