"""Does transfer help? `python -m resnet_space.study DATASET START`, or `study_transfer` from Python.

The same network from scratch, frozen with a solved head, and fine-tuned, at several numbers of images per class.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from resnet_space.common.hardware import keep_threads_apart

if __name__ == "__main__":
    keep_threads_apart()  # which is read when torch is imported

from resnet_space.common.command import in_one_sentence
from resnet_space.common.errors import UserError
from resnet_space.common.text import percent
from resnet_space.compare import run_of
from resnet_space.data.reference import DatasetRef
from resnet_space.data.sources import open_dataset
from resnet_space.runs import Run
from resnet_space.training import work
from resnet_space.training.speeds import SpeedFile, Speeds, machine_words
from resnet_space.training.study import SEEDS, SIZES, STEPS, Study
from resnet_space.training.study_words import left_out_words, words_of
from resnet_space.training.studying import Studying
from resnet_space.training.timing import measured


def study_transfer(
    dataset: str,
    start: str,
    folder: str | Path,
    *,
    sizes: Sequence[int] = SIZES,
    seeds: int = SEEDS,
    steps: int = STEPS,
    minutes: float | None = None,
    strategy: str = "",
    runs: str | Path = "checkpoints",
    tell: Callable[[Study], None] = lambda _: None,
) -> Study:
    """Study what the weights of a network are worth on a dataset, by the number of images per class.

    Args:
        dataset: as `TrainConfig.dataset`, such as "cifar10-mini".
        start: name of a run in the folder `runs`, or of pretrained weights.
        folder: where the study is kept; one that is there already goes on where it ended.
        sizes: images per class; those that the data or the minutes do not allow are left out.
        seeds: trainings of each kind and size.
        steps: of gradient descent in each training.
        minutes: that all may take, as far as that can be told beforehand.
        strategy: by which the weights are fine-tuned; "" for what suits the network.
        runs: the folder of runs; while another training runs there, the study waits.
        tell: called with what there is so far, now and then.

    Returns:
        The study; `mean`, `ahead` and `catches_up` give its curves.

    Raises:
        UserError: for a dataset or a network that there is not, or settings that are not allowed.
    """
    root, folder = Path(runs).absolute(), Path(folder).absolute()
    ref = DatasetRef.parse(dataset)
    open_dataset(ref)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / Study.FILE).exists():
        asked = replace(Study.read(folder), state="running", reason="")
    else:
        asked = Study(
            dataset=str(ref),
            start=start,
            strategy=strategy,
            sizes=tuple(sizes),
            seeds=seeds,
            steps=steps,
            budget=minutes,
            machine=machine_words(),
            created=round(time.time(), 1),
        )
    status = work.finish(folder, asked, lambda: _studying(asked, folder, root), tell)
    done = Study.read(folder)
    if status:
        raise UserError(done.reason or "This study is already under way.")
    return done


def finish(folder: Path) -> int:
    """Do what a study's folder asks for, and write what is found there. Returns the process's exit status."""
    asked = Study.read(folder)
    return work.finish(folder, asked, lambda: _studying(asked, folder, folder.parent.parent))


def _studying(asked: Study, folder: Path, root: Path) -> Studying:
    def speeds(start: Run) -> Speeds:
        known = SpeedFile(root).known()
        network = start.config.model.architecture, start.config.model.image_size
        if known is not None and network in known.steps:
            return known
        try:
            return measured([start])
        except (OSError, RuntimeError):  # then nobody knows how long it takes
            return Speeds()

    return Studying(asked, partial(run_of, root=root), folder, root, speeds)


def _print(shown: list[str], now: Study) -> None:
    if not shown and now.expected is not None:
        shown.append("")
        for words in left_out_words(now):
            print(words, flush=True)
        print(f"{len(now.trainings)} trainings, about {now.expected / 60:.0f} minutes in all.", flush=True)
    for point in now.points[len(shown) - 1 :] if shown else ():
        shown.append("")
        found = point.problem or f"{percent(point.accuracy)} in {point.seconds:.0f} s"
        print(f"{point.arm}, {point.per_class} per class, seed {point.seed}: {found}", flush=True)


@in_one_sentence
def main() -> int:
    parser = work.parser_of(Study, "Study what transfer is worth, by images per class.")
    parser.add_argument("dataset", metavar="DATASET", help='such as "cifar10-mini"')
    parser.add_argument("start", metavar="START", nargs="?", help="name of a run, or pretrained weights")
    parser.add_argument("--out", type=Path, help="folder of the study (default: below the runs)")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="images per class (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="that all may take; larger sizes are left out (default: any)")
    parser.add_argument("--strategy", default="", help="of fine-tuning (default: what suits the network)")
    arguments = parser.parse_args()
    if arguments.folder:
        return finish(Path(arguments.dataset).absolute())
    if not arguments.start:
        raise UserError("Name the network whose weights are to be transferred.")
    name = f"{arguments.dataset.replace('/', '-')}-{arguments.start}"
    done = study_transfer(
        arguments.dataset,
        arguments.start,
        arguments.out or arguments.runs / Study.FOLDER / name,
        sizes=arguments.sizes,
        seeds=arguments.seeds,
        steps=arguments.steps,
        minutes=arguments.minutes,
        strategy=arguments.strategy,
        runs=arguments.runs,
        tell=partial(_print, list[str]()),
    )
    print(words_of(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
