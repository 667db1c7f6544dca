"""Recalibrate a run: `python -m resnet_space.calibrate RUN_DIR`, for runs that have no temperature."""

import argparse
import json
import sys
from collections.abc import Sequence

from resnet_space.common.command import in_one_sentence
from resnet_space.hub.card import write_card
from resnet_space.runs import EVALUATION, METRICS, Metric, Run, last_metric, replaced_atomically
from resnet_space.training.calibration import calibrate
from resnet_space.training.evaluation import evaluate_test
from resnet_space.training.evaluation import save as save_evaluation
from resnet_space.training.run_images import splits_of


def refit(run: Run) -> list[Metric]:
    """Recalibrate a trained run, evaluate it on its test images again, and write its card.

    Returns:
        The new metrics. Raises UserError where the run or its images are not here, or it trains.
    """
    model = run.load_model()
    with run.training_lock():
        splits = splits_of(run)
        run, new = calibrate(run, model, splits)
        metrics = run.metrics()
        test = last_metric(metrics, "test")
        if test is not None:
            evaluation, summary = evaluate_test(model, splits.test, run.config.model)
            save_evaluation(evaluation, run.path / EVALUATION)
            new.append(test | {name: round(value, 5) for name, value in summary.items()})
        replaced = {metric["event"] for metric in new}
        others = [metric for metric in metrics if metric["event"] not in replaced]
        end = len(others) - (bool(others) and others[-1]["event"] == "end")
        _write_metrics(run, [*others[:end], *new, *others[end:]])
        write_card(run)
    return new


def _write_metrics(run: Run, metrics: Sequence[Metric]) -> None:
    with replaced_atomically(run.path / METRICS) as file:
        file.write_text("".join(json.dumps(metric, ensure_ascii=False) + "\n" for metric in metrics), encoding="utf-8")


@in_one_sentence
def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m resnet_space.calibrate",
        description="Fit the temperature and the out-of-distribution threshold of a "
        "trained run on its validation images.",
    )
    parser.add_argument("run", metavar="RUN_DIR", help="folder of the run")
    arguments = parser.parse_args()
    for metric in refit(Run.open(arguments.run)):
        print(" ".join(f"{name}={value}" for name, value in metric.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
