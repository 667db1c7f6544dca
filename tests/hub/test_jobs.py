import dataclasses
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resnet_space.common.hub_client import HubError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.data.sources import dataset_classes
from resnet_space.hub import follower
from resnet_space.hub.follower import Follower
from resnet_space.hub.jobs import (
    SETUP_SECONDS,
    SPACE_VARIABLE,
    Flavour,
    estimated_seconds,
    forward_flops,
    job_of,
    list_flavours,
    peak_tflops,
    start_job,
)
from resnet_space.hub.published import log_line, logged_metric
from resnet_space.runs import CARD, JOB, LOG, METRICS, START_WEIGHTS, WEIGHTS, Library, Run
from resnet_space.runs.queue import Trainer
from resnet_space.ui.finetune.jobs import cost_html
from tests.hub_stub import HubStub, isolate_client

TOKEN = "hf_the_token_of_ann_0123456789"
CONFIG = RunConfig(
    ModelConfig("resnet20", dataset_classes("cifar10-mini"), image_size=16),
    TrainConfig(dataset="cifar10-mini", epochs=1, batch_size=128, strategy="scratch"),
)
BACKBONE = Path(__file__).parents[2] / "checkpoints" / "resnet20-cbam-imagenet32"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    isolate_client(monkeypatch, tmp_path / "client")
    monkeypatch.setenv(SPACE_VARIABLE, "ann/resnet-space")
    with HubStub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        running.add_user(TOKEN, "ann")
        running.add_user("hf_reads_only_0123456789", "ann", writes=False)
        yield running


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs" / "a-run", CONFIG)


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def events(run: Run) -> list[str]:
    return [metric["event"] for metric in run.metrics()]


def everything_written(folder: Path) -> str:
    return "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


def test_a_run_trained_by_a_job_is_followed_live_and_comes_back_whole(hub: HubStub, run: Run, tmp_path: Path) -> None:
    job = start_job(run, "ann/a-run", "t4-small", 20, token=TOKEN)
    assert job_of(run) == job
    assert hub.model("ann/a-run").private
    following = Follower(run, job, TOKEN)
    following.start()
    wait_for(lambda: "step" in events(run))
    trainer = Trainer(Library(run.path.parent))
    assert trainer.status(run).state == "training"
    assert trainer.active() is None  # this machine is free for another training
    following.join(120)
    assert not following.is_alive()

    stub = hub.jobs[job.id]
    assert trainer.status(run).state == "finished", (run.path / LOG).read_text()
    there = Run.open(stub.folder / "a-run")
    assert [m for m in run.metrics() if m["event"] != "end"] == [m for m in there.metrics() if m["event"] != "end"]
    assert events(run).count("test") == events(run).count("end") == 1
    for name, value in there.load_model().state_dict().items():
        assert value.equal(run.load_model().state_dict()[name])
    assert "https://huggingface.co/spaces/ann/resnet-space" in (run.path / CARD).read_text(encoding="utf-8")
    assert hub.files("ann/a-run").keys() >= {WEIGHTS, CARD, METRICS}
    assert stub.asked["spaceId"] == "ann/resnet-space"
    assert stub.asked["flavor"] == "t4-small"
    assert stub.asked["timeoutSeconds"] == 20 * 60
    assert stub.asked["secrets"] == {"HF_TOKEN": TOKEN}
    assert TOKEN not in str(stub.asked["environment"]) + str(stub.asked["command"])
    assert TOKEN not in everything_written(run.path) + everything_written(stub.folder)


@pytest.mark.long
def test_a_job_starts_from_the_same_weights_as_a_training_here(hub: HubStub, tmp_path: Path) -> None:
    start = Run.open(BACKBONE)
    model = dataclasses.replace(start.config.model, classes=dataset_classes("cifar10-mini"))
    config = RunConfig(model, dataclasses.replace(CONFIG.training, strategy="linear-probe", start=start.name))
    run = Run.create(tmp_path / "runs" / "tuned", config, start=start)
    following = Follower(run, start_job(run, "ann/tuned", "t4-small", 20, token=TOKEN), TOKEN)
    following.start()
    following.join(120)
    trained, begun = run.load_weights(), run.load_weights(START_WEIGHTS)
    frozen = [name for name in begun if name.startswith("layer")]
    assert frozen
    assert all(trained[name].equal(begun[name]) for name in frozen)
    assert "start.safetensors" not in hub.files("ann/tuned")  # it is in the trained weights


def test_a_job_is_stopped_with_the_weights_that_it_had_pushed(hub: HubStub, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, epochs=200))
    run = Run.create(tmp_path / "runs" / "long", config)
    job = start_job(run, "ann/long", "t4-small", 20, token=TOKEN)
    following = Follower(run, job, TOKEN)
    following.start()
    wait_for(lambda: "step" in events(run))
    run.request_stop()
    following.join(60)
    assert hub.jobs[job.id].stage == "CANCELED"
    assert run.metrics()[-1]["status"] == "stopped"
    assert not run.stop_requested()
    assert not run.is_training


def test_a_job_that_dies_is_told_with_the_end_of_its_log(hub: HubStub, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, epochs=200))
    run = Run.create(tmp_path / "runs" / "dying", config)
    job = start_job(run, "ann/dying", "t4-small", 20, token=TOKEN)
    following = Follower(run, job, TOKEN)
    following.start()
    wait_for(lambda: "step" in events(run))
    process = hub.jobs[job.id].process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    following.join(60)
    end = run.metrics()[-1]
    assert end["status"] == "failed"
    assert end["reason"] == "The Hugging Face job ended before the training finished: Exit code -9."


@pytest.mark.long
def test_a_job_can_be_followed_anew_after_the_app_was_away(hub: HubStub, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "runs" / "a-run", CONFIG)
    job = start_job(run, "ann/a-run", "t4-small", 20, token=TOKEN)
    for metric in ({"event": "start", "device": "cpu", "epochs": 1, "steps_per_epoch": 14, "seconds": 0.0},):
        run.append_metric(metric)  # what was heard before the app went away
    following = Follower(run, job, TOKEN)
    following.start()
    following.join(120)
    assert events(run).count("start") == 1
    assert events(run)[-1] == "end"
    assert events(run).count("step") == 14


def test_a_job_whose_connection_is_lost_can_be_followed_again(
    hub: HubStub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start_job(run, "ann/a-run", "t4-small", 20, token=TOKEN)
    monkeypatch.setattr(follower, "AGAIN_SECONDS", (0.1,))
    hub.fail(f"{job.id}/logs", 403, times=2)  # which the client does not repeat
    lost = Follower(run, job, TOKEN)
    lost.start()
    lost.join(60)
    status = Trainer(Library(run.path.parent)).status(run)
    assert (status.state, status.cause) == ("failed", "job")
    assert "end" not in events(run)
    again = Follower(run, job, TOKEN)
    again.start()
    again.join(120)
    assert run.metrics()[-1]["status"] == "finished"
    assert events(run).count("step") == 14


@pytest.mark.parametrize(
    "line",
    [
        "",
        "epoch 1",
        "metric ",
        "metric {",
        "metric []",
        'metric {"event": "nonsense"}',
        'metric {"event": "step"}',
        'metric {"event": "end", "status": "<b>"}',
        'metric {"event": "test", "accuracy": NaN}',
    ],
)
def test_what_no_trainer_says_is_no_metric(line: str) -> None:
    assert logged_metric(line) is None


def test_a_metric_is_heard_as_it_was_said() -> None:
    metric = {"event": "end", "status": "failed", "reason": "ä"}
    assert logged_metric(log_line(metric)) == metric


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"token": None}, "A job needs a Hugging Face account to pay for it: sign in first."),
        (
            {"token": "hf_reads_only_0123456789"},
            "The job for a-run cannot be started with this account: check the token's permissions.",
        ),
        ({"repo_id": "a-run"}, "'a-run' is not a valid repository name: use the form owner/name, such as ann/birds."),
        (
            {"repo_id": "bob/a-run"},
            "The job for a-run cannot be started with this account: check the token's permissions.",
        ),
        ({"minutes": 0}, "The time limit must be 5 to 480 minutes, not 0."),
        ({"minutes": 10_000}, "The time limit must be 5 to 480 minutes, not 10000."),
    ],
)
def test_what_cannot_be_started_is_refused_in_one_sentence(
    change: dict[str, Any], why: str, hub: HubStub, run: Run
) -> None:
    asked = {"repo_id": "ann/a-run", "flavour": "t4-small", "minutes": 20, "token": TOKEN} | change
    with pytest.raises(HubError) as refused:
        start_job(run, **asked)
    assert str(refused.value).startswith(why)
    assert "hf_" not in str(refused.value)
    assert not (run.path / JOB).exists()
    assert not hub.jobs


def test_an_account_without_credit_is_told_so_and_its_next_try_may_have_the_same_repository(
    hub: HubStub, run: Run
) -> None:
    hub.without_credit.add("ann")
    with pytest.raises(HubError, match="credit"):
        start_job(run, "ann/a-run", "t4-small", 20, token=TOKEN)
    assert set(hub.files("ann/a-run")) == {".gitattributes"}
    hub.without_credit.clear()
    assert start_job(run, "ann/a-run", "t4-small", 20, token=TOKEN).repo_id == "ann/a-run"
    assert "config.json" in hub.files("ann/a-run")


def test_without_a_space_whose_image_has_the_app_there_are_no_jobs(
    hub: HubStub, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SPACE_VARIABLE)
    with pytest.raises(HubError, match=f"set {SPACE_VARIABLE}"):
        start_job(run, "ann/a-run", "t4-small", 20, token=TOKEN)


def test_a_repository_that_is_there_is_refused(hub: HubStub, run: Run) -> None:
    hub.add_model("ann/a-run", {"config.json": b"somebody's"})
    with pytest.raises(HubError, match=r"^ann/a-run already exists on the Hub: a job needs a new repository\.$"):
        start_job(run, "ann/a-run", "t4-small", 20, token=TOKEN)
    assert hub.files("ann/a-run") == {"config.json": b"somebody's"}


def test_images_that_are_only_here_are_refused(hub: HubStub, tmp_path: Path) -> None:
    training = dataclasses.replace(CONFIG.training, dataset="my-pets")
    run = Run.create(tmp_path / "runs" / "mine", dataclasses.replace(CONFIG, training=training))
    with pytest.raises(HubError, match="my-pets exists only on this machine"):
        start_job(run, "ann/a-run", "t4-small", 20, token=TOKEN)


def test_machines_with_a_gpu_are_offered_with_their_price_an_hour_the_cheapest_first(hub: HubStub) -> None:
    flavours = list_flavours(TOKEN)
    assert [flavour.name for flavour in flavours] == ["t4-small", "a10g-small", "h200"]
    assert [round(flavour.price_per_hour, 2) for flavour in flavours] == [0.4, 1.0, 5.0]
    assert flavours[0].words == "Nvidia T4 - small: 1 x T4, 16 GB"


def test_a_machine_whose_speed_is_not_known_has_a_price_and_no_estimate() -> None:
    unknown = Flavour("x", "A new one", 6.0, tflops=0)
    seconds = estimated_seconds(CONFIG, 1_000, unknown)
    assert math.isinf(seconds)
    html = cost_html(unknown, seconds, 20)
    assert "is not known" in html
    assert "at most $2.00" in html


@pytest.mark.parametrize(("model", "tflops"), [("L4", 121), ("L40S", 362), ("A10G", 70), ("B9000", 0)])
def test_a_gpus_peak_is_its_own(model: str, tflops: float) -> None:
    assert peak_tflops(model) == tflops


def test_a_cost_is_of_begun_minutes() -> None:
    flavour = Flavour("x", "", price_per_hour=6.0, tflops=1)
    assert [round(flavour.cost(seconds), 2) for seconds in (1, 60, 61, 3_600)] == [0.1, 0.1, 0.2, 6.0]


@pytest.mark.parametrize(
    ("name", "gigaflops"),
    [("resnet18", 3.64), ("resnet50", 8.22)],  # twice the multiply-adds that torchvision's tables have (1.81, 4.09 G)
)
def test_the_work_of_a_forward_pass_is_that_of_torchvisions_tables(name: str, gigaflops: float) -> None:
    classes = tuple(map(str, range(1_000)))
    model = ModelConfig(name, classes, options={"stem": "imagenet", "shortcut": "projection"}, image_size=224)
    assert forward_flops(model) / 1e9 == pytest.approx(gigaflops, rel=0.01)


def test_an_estimate_grows_with_the_work_and_never_is_below_the_set_up() -> None:
    gpu = Flavour("x", "", 1.0, tflops=100)
    small = estimated_seconds(CONFIG, 1_000, gpu)
    longer = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, epochs=50))
    assert SETUP_SECONDS < small < estimated_seconds(longer, 1_000, gpu) < estimated_seconds(longer, 100_000, gpu)
    large = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, image_size=224))
    assert estimated_seconds(large, 100_000, gpu) > estimated_seconds(
        large, 100_000, dataclasses.replace(gpu, tflops=900)
    )
