import errno
import gc
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id
from torch import Tensor

from resnet_space import runs
from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.models import Backbone
from resnet_space.runs import (
    CONFIG,
    LOCK,
    METRICS,
    QUEUED,
    START_WEIGHTS,
    WEIGHTS,
    Library,
    Run,
    read_metrics,
    replaced_atomically,
)
from resnet_space.runs import library as library_module

CONFIG_A = RunConfig(
    ModelConfig("resnet20", ("cat", "dög", "犬"), options={"cbam": "stage"}),
    TrainConfig(dataset="cifar10-mini", epochs=2, seed=3),
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "a-run", CONFIG_A)


def random_model(config: RunConfig, seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    model = config.model.build()
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.normal_()  # also BatchNorm's statistics and CBAM's zeros
        else:
            value.fill_(1_000_000_007)
    return model


def refusal(action: Any, *arguments: Any, **options: Any) -> str:
    """The sentence with which an action is refused."""
    with pytest.raises(UserError) as caught:
        action(*arguments, **options)
    sentence = str(caught.value)
    assert sentence.endswith("."), sentence
    assert "\n" not in sentence, sentence
    return sentence


# The folder


def test_a_run_that_was_created_opens_with_its_configuration(tmp_path: Path) -> None:
    created = Run.create(tmp_path / "runs" / "my.run_1-b", CONFIG_A)
    opened = Run.open(str(tmp_path / "runs" / "my.run_1-b"))
    assert opened == created
    assert opened.config == CONFIG_A
    assert opened.name == "my.run_1-b"
    assert not opened.has_weights
    assert opened.model_written()[0] == 0
    assert opened.metrics() == []
    assert not opened.is_training
    assert "犬" in (opened.path / CONFIG).read_text(encoding="utf-8")  # readable as it stands


def test_the_path_of_a_run_does_not_depend_on_the_current_folder(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.path.parent)
    opened = Run.open("a-run")
    monkeypatch.chdir("/")
    assert opened.path == run.path
    assert opened.metrics() == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "a-run is not a run: it has no config.json."),
        (b"", "The config.json of a-run cannot be read: "),
        (b'{"model": ', "The config.json of a-run cannot be read: "),
        (b'{"model": "caf\xe9"}', "The config.json of a-run cannot be read: "),
        (b"[" * 100_000, "The config.json of a-run cannot be read: "),
        (b"[]", "The config.json of a-run is not valid: A configuration must be a JSON object."),
        (b"null", "The config.json of a-run is not valid: A configuration must be a JSON object."),
        (b"{}", "The config.json of a-run is not valid: A configuration must have exactly two parts"),
        (b'{"model": 1, "training": {}}', 'The config.json of a-run is not valid: The part "model" must be'),
    ],
    ids=["missing", "empty", "broken", "not UTF-8", "nested without end", "a list", "null", "no parts", "a bad part"],
)
def test_a_bad_configuration_is_refused_with_its_reason(run: Run, content: bytes | None, reason: str) -> None:
    file = run.path / CONFIG
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert refusal(Run.open, run.path).startswith(reason)


@pytest.mark.parametrize(
    ("entry", "value", "named"),
    [
        ("epochs", 0, "from 1 to 1,000, not 0."),
        ("head_lr", float("nan"), "not nan."),
        ("head_lr", 10**400, "and at most 10, not 1000"),
    ],
    ids=["0 epochs", "NaN", "10 to the 400"],
)
def test_a_bad_value_in_the_configuration_is_named(run: Run, entry: str, value: object, named: str) -> None:
    data = run.config.to_json()
    data["training"][entry] = value
    (run.path / CONFIG).write_text(json.dumps(data))
    sentence = refusal(Run.open, run.path)
    assert sentence.startswith("The config.json of a-run is not valid: ")
    assert named in sentence


def test_a_folder_that_is_missing_or_a_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(Run.open, tmp_path / "nothing") == "nothing is not a run: it has no config.json."
    assert refusal(Run.open, tmp_path / "file").startswith("The config.json of file cannot be read: ")


@pytest.mark.parametrize(
    "name",
    ["../x", "..", "a/../b", "a b", "a" * 97, "-a", ".hidden", "_a", "ä", "a\n", "a*b"],
)
def test_a_name_that_cannot_be_used_is_refused_and_nothing_is_made(tmp_path: Path, name: str) -> None:
    root = tmp_path / "checkpoints"
    root.mkdir()
    assert "is not a valid run name" in refusal(Run.create, root / name, CONFIG_A)
    assert list(tmp_path.rglob("*")) == [root]


@pytest.mark.parametrize("name", ["a--b", "a..b", "a.", "a-", "a.git"])
def test_a_name_that_the_hub_would_refuse_is_refused_from_the_start(tmp_path: Path, name: str) -> None:
    with pytest.raises(HFValidationError):
        validate_repo_id(f"someone/{name}")
    assert "is not a valid run name" in refusal(Run.create, tmp_path / name, CONFIG_A)


def test_an_empty_name_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    root.mkdir()
    refusal(Run.create, root / "", CONFIG_A)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "7", "a" * 96, "A.b_c-d.2"])
def test_any_name_that_the_hub_allows_can_be_used(tmp_path: Path, name: str) -> None:
    validate_repo_id(f"someone/{name}")
    assert Run.open(Run.create(tmp_path / name, CONFIG_A).path).name == name


def test_a_name_that_is_taken_is_refused_and_what_is_there_stays(run: Run) -> None:
    before = (run.path / CONFIG).read_bytes()
    other = RunConfig(ModelConfig("resnet56", ("a", "b")))
    assert refusal(Run.create, run.path, other) == "A run named a-run already exists: choose another name."
    assert (run.path / CONFIG).read_bytes() == before


# Weights


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_weights_are_bit_identical_after_saving_and_loading(run: Run, memory_format: torch.memory_format) -> None:
    model = random_model(run.config).to(memory_format=memory_format)  # pyrefly: ignore[no-matching-overload]
    run.save_weights(model.state_dict())
    loaded = Run.open(run.path).load_model()
    assert not loaded.training
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, value in loaded.state_dict().items():
        assert value.dtype == expected[name].dtype, name
        assert torch.equal(value, expected[name]), name
        assert value.is_contiguous(), name
    assert run.has_weights
    assert time.time() - 60 < run.model_written()[0] <= time.time()


def test_saving_replaces_the_weights_and_leaves_the_model_as_it_was(run: Run) -> None:
    for seed in (0, 1):
        model = random_model(run.config, seed)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        run.save_weights(model.state_dict())
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name])
    assert torch.equal(run.load_model().conv1.weight, random_model(run.config, 1).conv1.weight)


def test_without_weights_there_is_nothing_to_load(run: Run) -> None:
    assert "a-run has no model.safetensors yet" in refusal(run.load_model)


def change(weights: dict[str, Tensor], *, missing: tuple[str, ...] = (), **added: Tensor) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if name not in missing} | added


@pytest.mark.parametrize(
    ("missing", "added", "named"),
    [
        (("layer2.0.conv1.weight",), {}, ["layer2.0.conv1.weight is missing"]),
        ((), {"layer9.weight": torch.ones(1)}, ["layer9.weight is unexpected"]),
        ((), {"fc.weight": torch.ones(10, 64)}, ["fc.weight has the shape (10, 64) instead of (3, 64)"]),
        ((), {"fc.bias": torch.ones(())}, ["fc.bias has the shape () instead of (3,)"]),
        (
            ("fc.bias",),
            {"extra": torch.ones(1), "bn1.bias": torch.ones(5)},
            ["fc.bias is missing", "extra is unexpected", "bn1.bias has the shape (5,) instead of (16,)"],
        ),
        (
            ("fc.bias", "fc.weight", "bn1.bias", "bn1.weight", "conv1.weight"),
            {},
            ["conv1.weight is missing", "(and 2 more)"],
        ),
    ],
    ids=["missing", "extra", "misshaped", "a scalar", "all three", "many"],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    run: Run, missing: tuple[str, ...], added: dict[str, Tensor], named: list[str]
) -> None:
    run.save_weights(change(random_model(run.config).state_dict(), missing=missing, **added))
    sentence = refusal(run.load_model)
    assert sentence.startswith("The model.safetensors of a-run does not fit resnet20: ")
    for part in named:
        assert part in sentence


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_weights_that_are_cut_off_are_refused(run: Run, keep: int) -> None:
    run.save_weights(random_model(run.config).state_dict())
    file = run.path / WEIGHTS
    file.write_bytes(file.read_bytes()[:keep])
    assert refusal(run.load_model).startswith("The model.safetensors of a-run cannot be read: ")


# Starting from another run's weights


def test_a_run_keeps_its_starts_head_where_the_classes_are_the_same(run: Run) -> None:
    model = random_model(run.config)
    run.save_weights(model.state_dict())
    new = Run.create(run.path.with_name("new"), run.config, start=run)
    weights = new.load_weights(START_WEIGHTS)
    assert weights.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(weights[name], value), name
    assert not new.has_weights  # it has not trained yet


@pytest.mark.parametrize("classes", [("cat", "dog"), ("dög", "cat", "犬"), ("a", "b", "c")])
def test_a_run_drops_its_starts_head_where_the_classes_differ(run: Run, classes: tuple[str, ...]) -> None:
    run.save_weights(random_model(run.config).state_dict())
    config = RunConfig(ModelConfig("resnet20", classes, options={"cbam": "stage"}), run.config.training)
    weights = Run.create(run.path.with_name("new"), config, start=run).load_weights(START_WEIGHTS)
    assert random_model(run.config).state_dict().keys() - weights.keys() == {"fc.weight", "fc.bias"}
    assert torch.equal(weights["conv1.weight"], run.load_weights()["conv1.weight"])


def test_a_start_without_weights_is_refused_and_nothing_is_made(run: Run) -> None:
    assert refusal(Run.create, run.path.with_name("new"), run.config, start=run).startswith("a-run has no weights")
    assert not run.path.with_name("new").exists()


def test_a_start_with_damaged_weights_is_refused_and_nothing_is_made(run: Run) -> None:
    (run.path / WEIGHTS).write_bytes(b"no weights")
    sentence = refusal(Run.create, run.path.with_name("new"), run.config, start=run)
    assert sentence.startswith("The model.safetensors of a-run cannot be read: ")
    assert not run.path.with_name("new").exists()


def of_type(run: Run, kind: torch.dtype) -> None:
    """Weights of this type, but for the norm layers' counters."""
    state = random_model(run.config).state_dict()
    kept = {name: value.to(kind) if value.is_floating_point() else value for name, value in state.items()}
    safetensors.torch.save_file(kept, run.path / WEIGHTS)


@pytest.mark.parametrize("kind", [torch.int8, torch.bool, torch.uint16, torch.float8_e4m3fn, torch.complex64])
def test_weights_of_a_type_that_weights_do_not_have_are_refused_by_name(run: Run, kind: torch.dtype) -> None:
    of_type(run, kind)
    for use in (run.load_model, run.load_weights, lambda: Run.create(run.path.with_name("new"), run.config, start=run)):
        said = refusal(use)
        assert said.startswith("The model.safetensors of a-run cannot be used because its ")
        assert said.endswith(": weights must be F32, F16, BF16, F64, not quantised.")
    assert not run.path.with_name("new").exists()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_another_precision_are_loaded_and_started_from_as_float32(run: Run, kind: torch.dtype) -> None:
    of_type(run, kind)
    expected = run.load_model().conv1.weight
    assert expected.dtype == torch.float32
    new = Run.create(run.path.with_name("new"), run.config, start=run)
    assert torch.equal(new.load_weights(START_WEIGHTS)["conv1.weight"], expected)


# Metrics


def test_metrics_come_back_as_they_were_appended(run: Run) -> None:
    metrics: list[dict[str, Any]] = [
        {"event": "start", "name": "犬\n"},
        {"event": "step", "loss": 0.1},
        {"event": "other", "step": 0},
    ]
    for metric in metrics:
        run.append_metric(metric)
    assert run.metrics() == metrics
    assert (run.path / METRICS).read_bytes().count(b"\n") == 3


def step(number: int) -> dict[str, Any]:
    return {"event": "step", "step": number}


def test_an_unfinished_last_line_is_left_out_until_it_is_finished(run: Run) -> None:
    run.append_metric(step(1))
    line = b'{"event": "step", "step": 2}\n'
    for written in range(len(line)):
        with (run.path / METRICS).open("r+b") as file:
            file.truncate(29)
            file.seek(29)
            file.write(line[:written])
        assert run.metrics() == [step(1)]
    with (run.path / METRICS).open("ab") as file:
        file.write(line[-1:])
    assert run.metrics() == [step(1), step(2)]


def test_a_reader_goes_on_after_the_last_complete_line(run: Run) -> None:
    run.append_metric(step(1))
    with (run.path / METRICS).open("ab", buffering=0) as writer, (run.path / METRICS).open("rb") as reader:
        assert read_metrics(reader) == [step(1)]
        assert read_metrics(reader) == []
        writer.write(b'{"event": "step", "step": 2}\n{"event": "st')
        assert read_metrics(reader) == [step(2)]
        writer.write(b'ep", "step": 3}\n')
        assert read_metrics(reader) == [step(3)]


# Replacing files


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    target = tmp_path / "new folder" / "file"
    for content in ("old", "new"):
        with replaced_atomically(target) as beside:
            beside.write_text(content)
            assert not target.exists() or target.read_text() == "old"
        assert target.read_text() == content
        assert list(target.parent.iterdir()) == [target]


def test_when_writing_fails_the_old_file_stays_and_nothing_is_left_behind(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def fail_half_way() -> None:
        with replaced_atomically(target) as beside:
            beside.write_text("half of the n")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fail_half_way()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_when_nothing_is_written_the_old_file_stays(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), replaced_atomically(target):
        pass
    assert target.read_text() == "old"


# One trainer at a time

HOLD_THE_LOCK = """
import sys, time
from resnet_space.runs import Run
with Run.open(sys.argv[1]).training_lock():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other_trainer(run: Run) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the run's lock."""
    environment = os.environ | {"PYTHONPATH": str(Path(runs.__file__).parent.parent)}
    command = [sys.executable, "-c", HOLD_THE_LOCK, str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_the_lock_is_freed_by_another_thread_than_took_it(run: Run) -> None:
    """As when a generator that holds it is closed where it was not begun."""
    with ExitStack() as held:
        held.enter_context(run.training_lock())
        assert run.is_training
        thread = threading.Thread(target=held.pop_all().close)
        thread.start()
        thread.join()
        assert not run.is_training


def test_a_forked_process_neither_frees_nor_keeps_the_lock(run: Run) -> None:
    """As ZeroGPU's workers are, which outlive a training or die before its end."""
    fork = multiprocessing.get_context("fork")
    with run.training_lock():
        short, long = fork.Process(target=gc.collect), fork.Process(target=time.sleep, args=(60,))
        short.start()
        long.start()
        short.join()
        assert run.is_training
    assert not run.is_training
    long.kill()
    long.join()


def test_a_run_is_training_while_another_process_holds_it_and_free_once_that_was_killed(
    run: Run, other_trainer: "subprocess.Popen[str]"
) -> None:
    assert run.is_training
    with pytest.raises(UserError, match=r"^a-run is already being trained by another process\.$"), run.training_lock():
        pass
    assert run.is_training  # being refused freed nothing
    assert run.metrics() == []
    other_trainer.send_signal(signal.SIGKILL)
    other_trainer.wait(10)
    assert not run.is_training
    with run.training_lock():
        assert run.is_training
    assert not run.is_training


def test_a_second_holder_in_the_same_process_is_refused_too(run: Run) -> None:
    with run.training_lock():
        with pytest.raises(UserError, match="is already being trained"), run.training_lock():
            pass
        assert run.is_training
    assert not run.is_training


def test_the_lock_is_freed_when_training_fails(run: Run) -> None:
    with pytest.raises(ZeroDivisionError), run.training_lock():
        _ = 1 / 0
    assert not run.is_training


def test_many_who_look_at_once_do_not_take_one_another_for_a_trainer(run: Run) -> None:
    with run.training_lock():
        pass
    (run.path / LOCK).touch()
    seen: list[bool] = []

    def look() -> None:
        seen.extend(run.is_training for _ in range(100))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 400
    assert not any(seen)


def test_a_stop_can_be_requested_and_withdrawn(run: Run) -> None:
    run.withdraw_stop()  # nothing to withdraw is fine
    assert not run.stop_requested()
    run.request_stop()
    run.request_stop()
    assert Run.open(run.path).stop_requested()
    run.withdraw_stop()
    assert not run.stop_requested()


# All runs below a folder


def test_a_library_lists_valid_runs_newest_first_and_skips_the_rest(tmp_path: Path) -> None:
    for i, name in enumerate(["oldest", "newest", "middle", "middle-too"]):
        run = Run.create(tmp_path / name, CONFIG_A)
        written = 1_000_000_000 + (0, 20, 10, 10)[i]
        os.utime(run.path / CONFIG, (written, written))
    (tmp_path / "a-file").touch()
    (tmp_path / "no-config").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / CONFIG).write_bytes(b"\xff{")
    (tmp_path / "invalid").mkdir()
    (tmp_path / "invalid" / CONFIG).write_text('{"model": {}, "training": {}}')
    (tmp_path / "config-is-a-folder" / CONFIG).mkdir(parents=True)
    library = Library(tmp_path)
    assert [run.name for run in library.runs()] == ["newest", "middle", "middle-too", "oldest"]
    assert all(run.config == CONFIG_A for run in library.runs())


def test_a_library_sees_runs_that_come_go_and_change(tmp_path: Path) -> None:
    library = Library(tmp_path / "checkpoints")
    assert library.runs() == []
    run = Run.create(tmp_path / "checkpoints" / "a", CONFIG_A)
    assert library.runs() == [run]
    (run.path / CONFIG).write_text("{}")
    os.utime(run.path / CONFIG, (1, 1))
    assert library.runs() == []


def test_a_library_opens_by_name_and_by_nothing_else(run: Run) -> None:
    library = Library(run.path.parent)
    assert library.open("a-run") == run
    assert refusal(library.open, "gone") == "There is no run named gone, or it has been deleted: choose another one."
    nothing: Any
    for nothing in ("", None, "../a-run", "a-run/../a-run", "..", ["a-run"], "a-run/"):
        assert refusal(library.open, nothing) == "Choose a run first."


def test_a_library_keeps_a_bounded_number_of_steps_in_memory_and_all_that_is_rarer(run: Run, tmp_path: Path) -> None:
    library = Library(tmp_path)
    for step in range(1, 2_501):
        run.append_metric({"event": "step", "step": step})
        if step % 250 == 0:
            run.append_metric({"event": "epoch", "epoch": step // 250})
            library.metrics(run)  # as somebody watches it
    kept = library.metrics(run)
    steps = [metric["step"] for metric in kept if metric["event"] == "step"]
    assert 500 < len(steps) <= 2_000
    assert steps == sorted(steps)
    assert steps[-1] == 2_500
    gaps = {later - step for step, later in itertools.pairwise(steps)}
    assert max(gaps) == 2
    assert [metric["epoch"] for metric in kept if metric["event"] == "epoch"] == list(range(1, 11))
    assert len(run.metrics()) == 2_510  # the file has them all


def test_a_library_finds_a_free_name(tmp_path: Path) -> None:
    library = Library(tmp_path)
    assert library.free_name("finetune") == "finetune-1"
    Run.create(tmp_path / "finetune-1", CONFIG_A)
    (tmp_path / "finetune-2").touch()
    assert library.free_name("finetune") == "finetune-3"


def test_a_library_forgets_the_metrics_that_were_read_longest_ago_where_they_are_too_many(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(run.path.parent)
    others = [Run.create(run.path.with_name(f"other-{i}"), run.config) for i in range(3)]
    for one in (run, *others):
        one.append_metric(step(1))
    size = (run.path / METRICS).stat().st_size
    monkeypatch.setattr(library_module, "METRICS_BYTES", 2 * size)
    for one in (run, *others, run):
        assert library.metrics(one) == [step(1)]
    assert [path.parent.name for path in library._metrics] == ["other-2", run.name]


def test_a_library_reads_what_is_new_and_notices_when_metrics_start_over(run: Run) -> None:
    library = Library(run.path.parent)
    assert library.metrics(run) == []
    run.append_metric(step(1))
    first = library.metrics(run)
    run.append_metric(step(2))
    with (run.path / METRICS).open("ab") as file:
        file.write(b'{"step"')
    assert library.metrics(run) == [step(1), step(2)]
    assert first == [step(1)]  # what was handed out does not grow
    os.truncate(run.path / METRICS, 29)
    assert library.metrics(run) == [step(1)]
    run.append_metric(step(3))
    assert library.metrics(run) == [step(1), step(3)]
    rewound = "".join(json.dumps(step(number)) + "\n" for number in (5, 6, 7))  # and longer again than it was
    (run.path / METRICS).write_text(rewound)
    assert library.metrics(run) == [step(5), step(6), step(7)]
    (run.path / METRICS).unlink()
    assert library.metrics(run) == []
    run.append_metric(step(4))
    assert library.metrics(run) == [step(4)]


# Again, for longer, by another name, gone


def test_a_repetition_has_the_same_configuration_and_start_and_none_of_the_training(tmp_path: Path) -> None:
    start = Run.create(tmp_path / "start", CONFIG_A)
    start.save_weights(random_model(CONFIG_A).state_dict())
    fine = replace(CONFIG_A, training=replace(CONFIG_A.training, start="start"))
    run = Run.create(tmp_path / "run", fine, start=start)
    run.save_weights(random_model(CONFIG_A, seed=1).state_dict())
    run.append_metric({"event": "start"})
    again = run.again(tmp_path / "again")
    assert (again.config, again.metrics(), again.has_weights) == (fine, [], False)
    assert (again.path / START_WEIGHTS).read_bytes() == (run.path / START_WEIGHTS).read_bytes()
    other = replace(fine, training=replace(fine.training, batch_size=8))
    assert Run.open(run.again(tmp_path / "other", other).path).config == other


def test_a_repetition_of_a_run_from_elsewhere_takes_its_start_from_beside_it(tmp_path: Path) -> None:
    start = Run.create(tmp_path / "start", CONFIG_A)
    start.save_weights(random_model(CONFIG_A).state_dict())
    fine = replace(CONFIG_A, training=replace(CONFIG_A.training, start="start"))
    run = Run.create(tmp_path / "run", fine, start=start)
    expected = (run.path / START_WEIGHTS).read_bytes()
    (run.path / START_WEIGHTS).unlink()
    assert (run.again(tmp_path / "again").path / START_WEIGHTS).read_bytes() == expected
    shutil.rmtree(start.path)
    assert refusal(run.again, tmp_path / "third").startswith("start is not a run")
    assert not (tmp_path / "third").exists()


def test_more_epochs_are_kept_in_the_configuration_file(run: Run) -> None:
    longer = run.with_more_epochs(3).with_more_epochs(2)
    assert longer.config.training.more_epochs == (3, 2)
    assert longer.config.training.total_epochs == CONFIG_A.training.epochs + 5
    assert Run.open(run.path) == longer
    for wrong in (0, -1, 2.5, True, "3"):
        with pytest.raises(UserError, match="added epochs"):
            run.with_more_epochs(wrong)
    assert Run.open(run.path) == longer


def test_a_run_is_renamed_with_all_that_it_has(run: Run) -> None:
    library = Library(run.path.parent)
    run.append_metric({"event": "start"})
    renamed = library.rename(run, "better")
    assert (renamed.name, renamed.config, renamed.metrics()) == ("better", run.config, [{"event": "start"}])
    assert [one.name for one in library.runs()] == ["better"]


def test_whoever_knows_a_run_by_an_earlier_name_finds_it_by_its_present_one(run: Run) -> None:
    library = Library(run.path.parent)
    other = Run.create(run.path.parent / "other", CONFIG_A)
    library.rename(library.rename(run, "second"), "third")
    assert library.names_now(["other", "a-run", "gone", "second", "third"]) == ["other", "third"]
    library.rename(other, "a-run")  # a name that is free again is the new run's
    assert library.names_now(["a-run", "other", "second"]) == ["a-run", "third"]
    library.rename(library.open("third"), "other")
    library.delete(library.open("other"))
    assert library.names_now(["second", "third", "other"]) == ["a-run"]  # whom "other" was before


def test_a_run_is_renamed_only_to_a_free_name_that_the_hub_allows_too(run: Run) -> None:
    library = Library(run.path.parent)
    Run.create(run.path.parent / "taken", CONFIG_A)
    assert refusal(library.rename, run, "taken") == "A run named taken already exists: choose another name."
    for name in ("", "../up", "a b", ".hidden", "a--b", None):
        assert "is not a valid run name" in refusal(library.rename, run, name)
    assert {one.name for one in library.runs()} == {"a-run", "taken"}


def test_a_deleted_run_is_gone_with_everything(run: Run) -> None:
    library = Library(run.path.parent)
    library.delete(run)
    assert list(run.path.parent.iterdir()) == []
    assert library.runs() == []


def test_a_half_deleted_run_is_no_run(run: Run) -> None:
    run.path.rename(run.path.with_name(".deleted-a-run"))
    assert Library(run.path.parent).runs() == []


def test_a_run_that_trains_or_waits_is_neither_deleted_nor_renamed(run: Run) -> None:
    library = Library(run.path.parent)
    for action in (library.delete, lambda run: library.rename(run, "other")):
        with run.training_lock():
            assert refusal(action, run).startswith("a-run is training or queued and cannot be ")
        (run.path / QUEUED).write_text("{}", encoding="utf-8")
        assert refusal(action, run).startswith("a-run is training or queued and cannot be ")
        (run.path / QUEUED).unlink()
    assert [one.name for one in library.runs()] == ["a-run"]
