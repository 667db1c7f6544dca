"""Check a dataset: `python -m resnet_space.check DATASET`, or `check_data` from Python.

With `--decisions FILE --name NAME` it makes a new version, as `apply_decisions` does.
"""

import csv
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, fields
from pathlib import Path

from resnet_space.common.hardware import keep_threads_apart

if __name__ == "__main__":
    keep_threads_apart()  # which is read when torch is imported

from resnet_space.common.command import in_one_sentence
from resnet_space.common.errors import UserError
from resnet_space.common.files import in_a_sentence
from resnet_space.common.text import csv_cell
from resnet_space.data.checks.items import MapPoint
from resnet_space.data.decisions import decisions_in
from resnet_space.data.reference import DatasetRef
from resnet_space.data.summary import summarise
from resnet_space.data.versions import apply_decisions
from resnet_space.runs import BACKBONE, PHOTO_BACKBONE, Run
from resnet_space.training import work
from resnet_space.training.checking import Check
from resnet_space.training.data_map import DataMap, Drawing
from resnet_space.training.data_report import DataReport
from resnet_space.training.feature_store import FeatureStore
from resnet_space.training.proposal import best_start
from resnet_space.training.speeds import machine_words

SHOWN = 10  # findings of each kind that the command prints


def check_data(
    dataset: str,
    *,
    backbone: str | Path | None = None,
    runs: str | Path = "checkpoints",
    map: bool = False,
    tell: Callable[[DataReport], None] = lambda _: None,
) -> DataReport:
    """Find labels that are probably wrong, copies, odd pictures, and classes that cannot be told apart.

    Args:
        dataset: as `TrainConfig.dataset`, such as "cifar10-mini".
        backbone: folder of a run, or its name in the folder `runs`, whose network computes the features; by default the
            shipped one that suits the pictures' size.
        runs: the folder of runs, beside which features are cached.
        map: whether to place the pictures on a plane by their features, too, in `report.map`: at most 10,000 of them.
        tell: called with what there is so far, now and then.

    Returns:
        The report: `label_issues`, `near_duplicates`, `outliers` and `classes`, the most urgent first.

    Raises:
        UserError: for a dataset or a run that there is not, or fewer than two classes with two pictures each.
    """
    root, ref = Path(runs), DatasetRef.parse(dataset)
    run = backbone_for(root, ref, backbone)
    asked = DataReport(dataset=str(ref), mapped=map, machine=machine_words(), created=round(time.time(), 1))
    return Check(asked, run, FeatureStore.beside(root)).done(tell)


def backbone_for(root: Path, ref: DatasetRef, name: str | Path | None) -> Run:
    """The run that is named, or the shipped one that suits the pictures. Raises UserError."""
    if not name:
        shipped = [name for name in (PHOTO_BACKBONE, BACKBONE) if (root / name).is_dir()]
        here = {name: Run.open(root / name).config.model for name in shipped}
        name = best_start(summarise(ref), here)
        if name is None:
            raise UserError(f"There is no backbone for these pictures in {root}: name a run.")
    return Run.open(name if Path(name).is_dir() else root / name)


def finish(folder: Path) -> int:
    """Do what the folder of a check, or of a map, asks for, and write there what is found. Returns the exit status."""
    root = folder.parent.parent
    store = FeatureStore.beside(root)
    if folder.parent.name == DataMap.FOLDER:
        of_check = DataMap.read(folder)
        return work.finish(folder, of_check, lambda: Drawing(of_check, folder, store.folder))
    asked = DataReport.read(folder)
    ref = DatasetRef.parse(asked.dataset)
    return work.finish(folder, asked, lambda: Check(asked, backbone_for(root, ref, asked.backbone), store, folder))


def _write_map(path: Path, points: Sequence[MapPoint]) -> None:
    """As CSV. Raises UserError."""
    with in_a_sentence("The map cannot be written"), path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(MapPoint)])
        writer.writerows([csv_cell(cell) for cell in astuple(point)] for point in points)


@in_one_sentence
def main() -> int:
    parser = work.parser_of(DataReport, "Check the pictures of a dataset.")
    parser.add_argument("dataset", metavar="DATASET", help='such as "cifar10-mini"')
    parser.add_argument(
        "--backbone", metavar="RUN", help="folder or name of the run whose network computes the features"
    )
    parser.add_argument(
        "--map", type=Path, metavar="CSV", help="write a map of the pictures, and their predicted classes"
    )
    parser.add_argument("--decisions", type=Path, metavar="FILE", help="JSON list of decisions: make a new version")
    parser.add_argument("--name", default="", help="of the new version")
    parser.add_argument("--clean-test", action="store_true", help="carry out decisions about test pictures, too")
    arguments = parser.parse_args()
    if arguments.folder:
        return finish(Path(arguments.dataset).absolute())
    if arguments.decisions:
        decisions = decisions_in(arguments.decisions)
        manifest = apply_decisions(arguments.dataset, decisions, arguments.name, clean_test=arguments.clean_test)
        print(f"{manifest.name}: {manifest.words}")
        return 0
    report = check_data(
        arguments.dataset, backbone=arguments.backbone, runs=arguments.runs, map=arguments.map is not None
    )
    if arguments.map is not None:
        _write_map(arguments.map, report.map)
    print(f"{report.words} Checked in {report.seconds:.0f} s with {report.backbone}.")
    for found in (report.label_issues, report.near_duplicates, report.outliers):
        for one in found[:SHOWN]:
            print(f"{one.split} {one.index} {one.file}: {one.words}")
    for finding in report.classes:
        print(finding.words)
    print(report.verdict or "There are too few pictures for a learning curve.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
