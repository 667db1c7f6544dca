"""That the benchmarks which need other machines or hours run at all, with tiny settings; their numbers mean nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.domains import difference
from benchmarks.profile_epoch import FUNCTIONS, Stopwatch, watching
from benchmarks.scaling import curve
from tests.trainings import png

ROOT = Path(__file__).parent.parent


def test_a_slope_is_the_power_by_which_something_grows() -> None:
    x = [1_000, 3_000, 10_000, 100_000]
    assert curve(x, [2e-4 * n**1.5 for n in x])["slope"] == 1.5
    assert curve(x, [7.0] * 4)["slope"] == 0
    bent = curve([1, 2, 4], [1, 2, 8])
    assert (bent["slope"], bent["steepest"]) == (1.5, 2)


def test_a_gain_is_the_mean_paired_difference_with_its_t_interval() -> None:
    gain, low, high = difference([0.5, 0.7, 0.9], [0.4, 0.5, 0.6])  # by 0.1, 0.2, 0.3: the standard error is 0.1 / √3
    half = 4.302653 * 0.1 / 3**0.5  # the t distribution's 97.5 % with two degrees of freedom
    assert (gain, low, high) == pytest.approx((0.2, 0.2 - half, 0.2 + half))


def test_a_moment_counts_to_the_innermost_part_and_all_of_a_validation_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(Stopwatch, "_now", lambda _self: next(clock))  # a second passes at each look
    stopwatch = Stopwatch()
    inner = stopwatch.timed(lambda: None, "backward")
    stopwatch.timed(inner, "forward")()  # other 1, forward 1, backward 1, forward 1
    stopwatch.timed(inner, "validation")()  # other 1, validation 3
    assert stopwatch.seconds == {"other": 2, "forward": 2, "backward": 1, "validation": 3}


def test_the_functions_that_a_profile_watches_are_there_and_are_left_as_they_were() -> None:
    before = [getattr(owner, name) for owner, name, _ in FUNCTIONS]
    with watching(Stopwatch()):
        assert all(getattr(owner, name) is not was for (owner, name, _), was in zip(FUNCTIONS, before, strict=True))
    assert [getattr(owner, name) for owner, name, _ in FUNCTIONS] == before


@pytest.mark.long
def test_the_gpu_benchmark_runs_to_its_end_here(tmp_path: Path, write_split) -> None:
    for split, count in (("train", 24), ("test", 4)):
        write_split(tmp_path / "tiny", split, [png(i) for i in range(count)], [i % 2 for i in range(count)], ("a", "b"))
    program = (
        "import sys; from pathlib import Path; from benchmarks import gpu, machine; "
        "machine.RESULTS = Path(sys.argv.pop(1)); gpu.main()"
    )
    settings = "--architecture resnet20 --cbam none --dataset tiny --batch-size 8 --epochs 1 --loop-epochs 1"
    more = "--loop-batch-size 8 --workers 0 --rounds 1 --matrix-size 64 --save tiny"
    command = [sys.executable, "-c", program, str(tmp_path), *settings.split(), *more.split()]
    environment = {"RESNET_SPACE_DATA": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=environment)
    (model,) = json.loads((tmp_path / "tiny.json").read_text())["models"]
    assert model["medians"]["trainer"] > 0
    assert model["model_flops_utilisation"] > 0
    assert 0 <= model["time_to_accuracy"]["loop_accuracy"] <= 1


@pytest.mark.long
def test_strangers_are_let_loose_on_an_app_of_their_own_and_all_ends(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from benchmarks import machine, strangers; "
        "machine.RESULTS = Path(sys.argv.pop(1)); strangers.main()"
    )
    settings = "--attacks quiet mcp_streams --seconds 4 --visitors 2 2 1 1 --save tiny"
    subprocess.run([sys.executable, "-c", program, str(tmp_path), *settings.split()], cwd=ROOT, check=True)
    quiet, attacked = json.loads((tmp_path / "tiny.json").read_text())["attacks"].values()
    assert set(quiet["served"]) == {"get", "predict", "measure", "upload"}
    assert not any(kind["errors"] for kind in quiet["served"].values())
    assert sum(attacked["attack"].values()) >= 300
