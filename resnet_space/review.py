"""Before and after a review: `python -m resnet_space.review VERSION`, or `before_and_after` from Python."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from resnet_space.common.hardware import keep_threads_apart

if __name__ == "__main__":
    keep_threads_apart()  # which is read when torch is imported

from resnet_space.check import backbone_for
from resnet_space.common.errors import UserError
from resnet_space.data.reference import DatasetRef
from resnet_space.training import work
from resnet_space.training.before_after import judge_before_and_after
from resnet_space.training.feature_store import FeatureStore
from resnet_space.training.review import BeforeAfter
from resnet_space.training.speeds import machine_words
from resnet_space.training.work import Stop, Tell


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
    return judge_before_and_after(asked, run, FeatureStore.beside(root), tell=tell)


def finish(folder: Path) -> int:
    """Do what a folder asks for, and write there what came of it. Returns the process's exit status."""
    root = folder.parent.parent
    asked = BeforeAfter.read(folder)

    def do(tell: Tell[BeforeAfter], stop: Stop) -> BeforeAfter:
        run = backbone_for(root, DatasetRef.parse(asked.dataset), asked.backbone)
        return judge_before_and_after(asked, run, FeatureStore.beside(root), tell=tell, stop=stop, folder=folder)

    return work.finish(folder, asked, do)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m resnet_space.review", description="Compare a reviewed dataset with the one that it came from."
    )
    parser.add_argument("version", metavar="VERSION", help="the new dataset, or with --folder a comparison")
    parser.add_argument("--backbone", metavar="RUN", help="whose network computes the features")
    parser.add_argument("--runs", type=Path, default=Path("checkpoints"), help="folder of runs (default: %(default)s)")
    parser.add_argument("--folder", action="store_true", help="VERSION is the folder of a comparison of the app")
    arguments = parser.parse_args()
    try:
        if arguments.folder:
            return finish(Path(arguments.version).absolute())
        found = before_and_after(arguments.version, backbone=arguments.backbone, runs=arguments.runs)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(found.words)
    return 0


if __name__ == "__main__":
    sys.exit(main())
