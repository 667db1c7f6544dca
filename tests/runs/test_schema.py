"""What a line of metrics may say, of this version and of others."""

import json
import subprocess
import sys
from typing import Any

import pytest

from resnet_space.runs import MetricError, count_test_evaluations, metric_of

STEP = {"event": "step", "step": 5, "loss": 0.7, "images_per_second": 80, "seconds": 1.5}


def line(**more: Any) -> bytes:
    return json.dumps(STEP | more).encode()


def test_named_parts_of_the_loss_are_read() -> None:
    losses = {"cross_entropy": 0.5, "domain": -0.25}
    assert metric_of(line(losses=losses), whole=True)["losses"] == losses


@pytest.mark.parametrize(
    "losses",
    [
        {"Domain": 1},
        {"a" * 41: 1},
        {"": 1},
        {"a\n": 1},
        {"a": "1"},
        {"a": True},
        {"a": None},
        [1],
        {f"l{i}": 1 for i in range(17)},
    ],
)
def test_parts_of_the_loss_with_other_names_or_values_are_refused(losses: Any) -> None:
    for whole in (True, False):
        with pytest.raises(MetricError, match="as 'losses'"):
            metric_of(line(losses=losses), whole=whole)


def test_a_line_of_a_newer_version_is_read_whatever_it_has_besides() -> None:
    assert metric_of(line(novel={"deep": [1, {"a": None}]}))["novel"] == {"deep": [1, {"a": None}]}
    assert metric_of(b'{"event": "novel", "what": [1]}') == {"event": "novel", "what": [1]}


def test_a_line_of_an_older_version_tells_the_evaluations_of_the_test_images_by_their_present_name() -> None:
    test = metric_of(
        b'{"event": "test", "split": "test", "images": 5, "accuracy": 1, "seconds": 1, "looks": 2}', whole=True
    )
    assert (test["test_evaluations"], "looks" in test) == (2, False)
    assert count_test_evaluations([metric_of(b'{"event": "start", "looks": 1}'), test]) == 2


def test_runs_are_imported_without_pydantic() -> None:
    code = "import sys, resnet_space.runs; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
