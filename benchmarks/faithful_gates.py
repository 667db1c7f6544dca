"""On how many photographs do gates beat chance? `python benchmarks/faithful_gates.py RUN_DIR HYMENOPTERA_ZIP [--save]`.

For the photographs of the archive's folder `val`, the spatial gate of the run's last CBAM and Grad-CAM are tested as
maps of the class that the run names first, as Predict's "Test these maps" does: `Classifier.evidence`, by insertion,
deletion and ROAD beside 19 random maps as coarse. Reports the share of photographs on which each is better than chance.
That takes some 600 forward passes a photograph. What was measured is kept beside the run's folder, so that a
repetition goes on; `--photographs N` takes N of them, ants and bees in turn.
"""

import argparse
import itertools
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import save
from resnet_space.data.images import open_image
from resnet_space.explain.faithfulness import MEASURES, Evidence
from resnet_space.inference import Classifier
from resnet_space.runs import Run

GATE, GRAD_CAM = "gate", "grad-cam"


def photographs(archive: zipfile.ZipFile) -> list[str]:
    """Those of `val`, the classes in turn."""
    names = sorted(name for name in archive.namelist() if "/val/" in name and name.lower().endswith((".jpg", ".png")))
    classes = [[name for name in names if f"/val/{label}/" in name] for label in ("ants", "bees")]
    return [name for pair in itertools.zip_longest(*classes) for name in pair if name is not None]


def told(evidence: Evidence) -> dict[str, Any]:
    return {
        "verdict": evidence.verdict,
        "beaten": [evidence.measures[name].beaten for name in MEASURES],
        "probability": round(evidence.start, 4),
    }


def judged(classifier: Classifier, archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    with archive.open(name) as file:
        image = open_image(file)
    prediction = classifier.predict(image, features=True)
    index = prediction.indices[0]
    *_, gate = prediction.attention.spatial.values()
    maps = {GATE: gate[0].numpy(), GRAD_CAM: classifier.class_maps(prediction, [index]).raw[0]}
    found = classifier.evidence(image, index, maps)
    return {"photograph": name, "class": prediction.classes[0]} | {kind: told(one) for kind, one in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run with CBAM")
    parser.add_argument("archive", type=Path, help="hymenoptera.zip")
    parser.add_argument("--photographs", type=int, help="how many; all unless it is said")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/faithful_gates.json")
    arguments = parser.parse_args()
    classifier = Classifier(Run.open(arguments.run))
    kept = arguments.run.with_name(f"{arguments.run.name}.gates.jsonl")
    known = {one["photograph"]: one for one in map(json.loads, kept.open() if kept.exists() else ())}
    found = []
    with zipfile.ZipFile(arguments.archive) as archive, kept.open("a") as lines:
        for name in photographs(archive)[: arguments.photographs]:
            if name not in known:
                known[name] = judged(classifier, archive, name)
                lines.write(json.dumps(known[name]) + "\n")
                lines.flush()
            found.append(known[name])
            shares = {kind: _share(found, kind) for kind in (GATE, GRAD_CAM)}
            print(f"{len(found):3} {name.rpartition('/')[2]:32} {found[-1][GATE]['verdict']:7} {shares}", flush=True)
    if arguments.save:
        save(
            "faithful_gates",
            {
                "run": arguments.run.name,
                "photographs": len(found),
                "better_than_chance": {kind: _share(found, kind) for kind in (GATE, GRAD_CAM)},
                "found": found,
            },
        )


def _share(found: list[dict[str, Any]], kind: str) -> float:
    better: int = sum(one[kind]["verdict"] == "better" for one in found)
    return round(better / len(found), 4)


if __name__ == "__main__":
    main()
