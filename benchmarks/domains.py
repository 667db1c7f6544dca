"""Does a domain loss help? `python benchmarks/domains.py FOLDER [--short] [--seeds N ...] [--save NAME]`.

The source is cifar10-mini with its labels; the targets are the same pictures defocused, recoloured, and as sketches,
without labels. The shipped ImageNet backbone is fine-tuned: on the source alone, with AdaBN, and with MMD, CORAL and
DANN. Reports the accuracy on the target's 1,000 test images and on the source's, and the paired difference from the
source alone with a 95 % t interval over seeds.

The weights of the domain losses make each about as large as the task loss before training, to a power of ten; nothing
was tuned on the target's labels. Stopped in between, it goes on where it was if called with the same folder; several
processes may share the folder if each has its own seeds. The short form has two seeds and one target.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from scipy.stats import ttest_1samp

from benchmarks.machine import save
from resnet_space.config import RunConfig
from resnet_space.data.restyled import ORIGINAL, RESTYLED
from resnet_space.data.sources import DATA_FOLDER_VARIABLE, dataset_classes
from resnet_space.data.target import Target
from resnet_space.runs import Run, is_tested, last_metric
from resnet_space.training.device import choose_device
from resnet_space.training.loop import train
from resnet_space.training.objectives import objective_of
from resnet_space.training.state import evaluate
from resnet_space.training.strategies import recipe

START = ROOT / "checkpoints" / "resnet20-cbam-imagenet32"
SOURCE_ONLY, ADABN = "cross-entropy", "adabn"
WEIGHTS = {"mmd-linear": 0.01, "mmd-gaussian": 1.0, "coral": 100.0, "dann": 1.0}

Result = dict[str, float]  # "source" and "target", the test accuracies 0..1, and "seconds"


def config_of(start: Run, objective: str, target: str, seed: int, epochs: int) -> RunConfig:
    model = replace(start.config.model, classes=dataset_classes(ORIGINAL))
    settings: dict[str, Any] = {"objective": objective, "target": target, "seed": seed, "epochs": epochs}
    settings["domain_weight"] = WEIGHTS.get(objective, 1.0)
    return RunConfig(model, recipe("probe-then-fine-tune", ORIGINAL, start=start.name, **settings))


def trained(path: Path, config: RunConfig, start: Run) -> Run:
    """The run at this path, trained and tested; one that is there already is only continued."""
    begun = path.exists()
    run = Run.open(path) if begun else Run.create(path, config, start=start)
    if not is_tested(run.metrics()):
        with closing(train(run, resume=begun)) as metrics:
            for metric in metrics:
                if metric["event"] == "test":
                    break
    return run


def judged(run: Run, target: str) -> Result:
    """The source-only run, or one that was adapted without training, on a target."""
    device, model = choose_device(), run.config.model
    network = run.load_model().to(device)
    (own, _), (other, _) = (
        found
        for name in (ORIGINAL, target)
        if (found := Target(replace(run.config.training, target=name), model.stored_size).test(model.classes))
    )
    return {"source": evaluate(network, own, model)[1], "target": evaluate(network, other, model)[1]}


def result(folder: Path, start: Run, objective: str, target: str, seed: int, epochs: int) -> Result:
    """Of one training; AdaBN takes that on the source alone, which is the same for all targets."""
    config = config_of(start, objective, target, seed, epochs)
    if objective in WEIGHTS:
        run = trained(folder / f"{objective}-{_style(target)}-{seed}", config, start)
        test = last_metric(run.metrics(), "test") or {}
        found: Result = {"source": test["accuracy"], "target": test["target_accuracy"]}
    else:
        run = trained(folder / f"{SOURCE_ONLY}-{seed}", config_of(start, SOURCE_ONLY, target, seed, epochs), start)
        if objective == ADABN:
            shutil.rmtree(folder / f"{ADABN}-{seed}", ignore_errors=True)
            adapted = Run.create(folder / f"{ADABN}-{seed}", config, start=start)
            adapted.save_weights(run.load_weights())
            objective_of(config).finish(adapted, choose_device())
            found = judged(adapted, target)
        else:
            found = judged(run, target)
    return found | {"seconds": max(metric.get("seconds", 0.0) for metric in run.metrics())}


def _style(target: str) -> str:
    return target.rpartition("+")[2]


def difference(ours: list[float], base: list[float]) -> tuple[float, float, float]:
    """The mean paired difference and its 95 % t interval."""
    differences = [a - b for a, b in zip(ours, base, strict=True)]
    interval = ttest_1samp(differences, 0).confidence_interval(0.95)
    return statistics.mean(differences), float(interval.low), float(interval.high)


def summarised(results: dict[str, dict[str, list[Result]]]) -> dict[str, Any]:
    """By target and objective; prints the table."""
    summary: dict[str, Any] = {}
    for target, by_objective in results.items():
        print(f"\n{RESTYLED[target]}")
        base = [each["target"] for each in by_objective[SOURCE_ONLY]]
        for objective, found in by_objective.items():
            on_target, on_source = ([each[which] for each in found] for which in ("target", "source"))
            gain, low, high = difference(on_target, base)
            told = (
                "" if objective == SOURCE_ONLY else f"{100 * gain:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
            )
            means = f"target {statistics.mean(on_target):.1%}, source {statistics.mean(on_source):.1%}"
            print(f"{objective:<14} {means}  {told}")
            row = {"target": on_target, "source": on_source, "seconds": [each["seconds"] for each in found]}
            row |= {} if objective == SOURCE_ONLY else {"gain": [round(value, 4) for value in (gain, low, high)]}
            summary.setdefault(target, {})[objective] = row
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the runs and the targets")
    parser.add_argument("--short", action="store_true", help="two seeds, the sketches, two epochs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--objectives", nargs="+", choices=[ADABN, *WEIGHTS], default=[ADABN, *WEIGHTS])
    parser.add_argument("--targets", nargs="+", choices=list(RESTYLED), default=list(RESTYLED))
    parser.add_argument("--epochs", type=int, default=3, help="the first of which solves the head")
    parser.add_argument("--save", metavar="NAME", help="write benchmarks/results/NAME.json")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.seeds, arguments.targets, arguments.epochs = [0, 1], [list(RESTYLED)[-1]], 2
    if len(arguments.seeds) < 2 and arguments.save:
        parser.error("an interval needs at least 2 seeds")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.environ[DATA_FOLDER_VARIABLE] = str(arguments.folder)

    start, objectives = Run.open(START), [SOURCE_ONLY, *arguments.objectives]
    results: dict[str, dict[str, list[Result]]] = {
        target: {objective: [] for objective in objectives} for target in arguments.targets
    }
    for target in arguments.targets:
        for seed in arguments.seeds:
            for objective in objectives:
                kept = arguments.folder / f"{objective}-{_style(target)}-{seed}.json"
                if not kept.exists():
                    began = time.perf_counter()
                    found = result(arguments.folder, start, objective, target, seed, arguments.epochs)
                    kept.write_text(json.dumps(found), encoding="utf-8")
                    print(f"{kept.stem}: {found}, {time.perf_counter() - began:.0f} s", flush=True)
                results[target][objective].append(json.loads(kept.read_text(encoding="utf-8")))
    if len(arguments.seeds) > 1:
        summary = summarised(results)
        if arguments.save:
            about = {"source": ORIGINAL, "start": start.name, "epochs": arguments.epochs, "seeds": arguments.seeds}
            save(arguments.save, {**about, "weights": WEIGHTS, "targets": summary})


if __name__ == "__main__":
    main()
