"""Compare networks on a dataset: `python -m resnet_space.compare DATASET NETWORK ...`, or `compare_models` from Python.

Networks are runs, by folder or by name below `--runs`, and pretrained weights by name, such as "resnet18.tv_in1k".
"""

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from resnet_space.common.hardware import keep_threads_apart

if __name__ == "__main__":
    keep_threads_apart()  # which is read when torch is imported

from resnet_space.common.command import in_one_sentence
from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import Progress
from resnet_space.common.text import percent
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import open_dataset
from resnet_space.hub.licence import licence_of
from resnet_space.hub.pretrained import is_pretrained, pull_pretrained
from resnet_space.runs import Run
from resnet_space.training import work
from resnet_space.training.comparing import Comparing
from resnet_space.training.comparison import MOST_IMAGES, Candidate, Comparison, has_seen
from resnet_space.training.feature_store import FeatureStore
from resnet_space.training.speeds import machine_words


def compare_models(
    dataset: str,
    networks: Sequence[str | Path],
    *,
    images: int = MOST_IMAGES,
    runs: str | Path = "checkpoints",
    tell: Callable[[Comparison], None] = lambda _: None,
) -> Comparison:
    """Judge networks on the training images of a dataset, by features that are computed once and a solved head.

    Args:
        dataset: as `TrainConfig.dataset`, such as "cifar10-mini".
        networks: folders of runs, names of runs in the folder `runs`, or names of pretrained weights.
        images: at most so many are used, each class in its share.
        runs: the folder of runs, beside which features are cached and pretrained weights are stored.
        tell: called with what there is so far, now and then.

    Returns:
        The comparison: `rows`, and in `choice` which network to take and why.

    Raises:
        UserError: for a dataset or a network that there is not.
    """
    root = Path(runs)
    ref = DatasetRef.parse(dataset)
    classes = open_dataset(ref).columns.classes
    found = {str(network): run_of(network, root=root) for network in dict.fromkeys(networks)}
    candidates = [
        Candidate(name, licence_of(run), seen=has_seen(run.config.model, classes)) for name, run in found.items()
    ]
    asked = Comparison(str(ref), tuple(candidates), most=images, machine=machine_words(), created=round(time.time(), 1))
    return Comparing(asked, lambda name, _: found[name], FeatureStore.beside(root)).done(tell)


def run_of(name: str | Path, progress: Progress | None = None, *, root: Path) -> Run:
    """A run by its name below `root` or its folder, or pretrained weights, downloaded if they are not there yet.

    Raises UserError.
    """
    below = (root / name).is_dir()
    if not below and is_pretrained(str(name)):
        return pull_pretrained(str(name), root, progress=progress)
    return Run.open(name if Path(name).is_dir() and not below else root / name)


def finish(folder: Path) -> int:
    """Judge what a comparison's folder asks for, and write what is found there. Returns the process's exit status."""
    root, asked = folder.parent.parent, Comparison.read(folder)
    fetch, store = partial(run_of, root=root), FeatureStore.beside(root)
    return work.finish(folder, asked, lambda: Comparing(asked, fetch, store, folder))


def _print(shown: list[str], now: Comparison) -> None:
    for row in now.rows[len(shown) :]:
        shown.append(row.name)
        if row.problem:
            print(f"{row.name}: {row.problem}", flush=True)
            continue
        low, high = row.interval
        print(
            f"{row.name}: {percent(row.accuracy)} ({percent(low)} to {percent(high)}), "
            f"nearest neighbours {percent(row.neighbours_accuracy)}, {row.images_per_second:.0f} images/s",
            flush=True,
        )


@in_one_sentence
def main() -> int:
    parser = work.parser_of(Comparison, "Compare networks on the training images of a dataset.")
    parser.add_argument("dataset", metavar="DATASET", help='such as "cifar10-mini"')
    parser.add_argument("networks", metavar="NETWORK", nargs="*", help="folder or name of a run, or pretrained weights")
    parser.add_argument("--images", type=int, default=MOST_IMAGES, help="at most so many (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.folder:
        return finish(Path(arguments.dataset).absolute())
    if not arguments.networks:
        raise UserError("Name at least one network to judge.")
    tell = partial(_print, list[str]())
    done = compare_models(
        arguments.dataset, arguments.networks, images=arguments.images, runs=arguments.runs, tell=tell
    )
    print(done.choice.words)
    return 0


if __name__ == "__main__":
    sys.exit(main())
