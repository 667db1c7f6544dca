"""Write the results of a study of what transfer is worth, and its figure for docs/studies.md.

    python -m resnet_space.study cifar10-mini resnet20-cbam-imagenet32 --sizes 5 30 200 --steps 200 --out FOLDER
    python benchmarks/transfer.py FOLDER

The study resumes where it was interrupted; this reads what there is of it.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save
from resnet_space.plots.export import SIZES, exported_figure
from resnet_space.plots.figures import save_png
from resnet_space.training.study import Study
from resnet_space.training.study_words import costs_of, to_json, words_of
from resnet_space.ui.finetune.study.shown import chart_of

FIGURE = ROOT / "docs" / "studies" / "transfer.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the study")
    study = Study.read(parser.parse_args().folder)
    costs = [dict(zip(("arm", "size", "seconds", "accuracy", "epochs"), row, strict=True)) for row in costs_of(study)]
    settings = {name: getattr(study, name) for name in ("dataset", "start", "sizes", "steps", "state")}
    save("transfer", {**settings, **to_json(study), "costs": costs})
    caption = f"{study.start} on {study.dataset}; {study.steps} steps each. Intervals: Student's t over seeds."
    size = replace(SIZES["slide"], width=8.0, height=4.5, text=10.0, line=1.4)
    save_png(exported_figure([chart_of(study)], caption, size), FIGURE)
    print(words_of(study))


if __name__ == "__main__":
    main()
