import asyncio
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resnet_space.config import ModelConfig, RunConfig
from resnet_space.runs import QUEUED, Metric, Run
from resnet_space.serve.context import AppContext
from resnet_space.ui.finetune import live
from resnet_space.ui.finetune.live import LiveFeed, followed_row, rows_of

CONFIG = RunConfig(ModelConfig("resnet20", ("cat", "dog")))
START: Metric = {"event": "start", "device": "cpu", "epochs": 10, "steps_per_epoch": 2, "seconds": 0.0}


def step(number: int) -> Metric:
    rates = {"head": 0.1}
    return {"event": "step", "step": number, "loss": 1.0, "rates": rates, "images_per_second": 9.0, "seconds": 1.0}


@pytest.fixture
def context(tmp_path: Path) -> AppContext:
    return AppContext(tmp_path)


def made(context: AppContext, name: str) -> Run:
    run = Run.create(context.library.root / name, CONFIG)
    run.append_metric(START)
    return run


def content(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_page_gets_all_that_it_shows_at_once_and_then_only_what_is_new(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "REFRESH_SECONDS", 0.01)
    run, feed = made(context, "a-run"), LiveFeed(context)
    run.append_metric(step(1))

    async def watch() -> list[str]:
        events = feed._events(("a-run",))
        told = [await anext(events), await anext(events)]
        run.append_metric(step(2))
        told.append(await anext(events))
        await events.aclose()
        return told

    retry, first, second = asyncio.run(watch())
    assert retry == "retry: 1000\n\n"
    for i, event in enumerate((first, second), 1):
        assert event.startswith("data: ")
        assert event.endswith("\n\n")
        assert event.count("\n") == 2  # one line of data
        figures = content(event[6:])["figures"]
        assert figures["loss"]["data"][0]["x"] == list(range(1, i + 1))
        assert set(figures) == {"loss", "accuracy", "rates", "speed", "memory"}


def test_while_nothing_happens_only_a_sign_of_life_is_sent(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.05)
    made(context, "a-run")

    async def watch() -> list[str]:
        events = LiveFeed(context)._events(("a-run",))
        return [await anext(events) for _ in range(4)]

    assert asyncio.run(watch())[2:] == [": still here\n\n"] * 2


def test_a_message_is_made_once_however_many_pages_show_the_same_runs_and_however_long_it_takes(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(context, "a-run")
    feed, looks, clock, all_wait = LiveFeed(context), [], [0.0], threading.Event()
    renew = LiveFeed._renew

    def counted(self: LiveFeed, *rest: Any) -> None:
        assert all_wait.wait(60)
        looks.append(rest)
        renew(self, *rest)
        clock.append(clock[-1] + live.REFRESH_SECONDS)

    monkeypatch.setattr(LiveFeed, "_renew", counted)
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: clock[-1]))

    async def many() -> list[str]:
        asking = [asyncio.create_task(feed.latest(("a-run",))) for _ in range(200)]
        await asyncio.sleep(0)  # each of them begins
        all_wait.set()
        return await asyncio.gather(*asking)

    texts = asyncio.run(many())
    assert len(looks) == 1
    assert all(text is texts[0] for text in texts)


def test_the_key_changes_when_a_run_comes_goes_or_ends_but_not_with_every_step(context: AppContext) -> None:
    run, feed = made(context, "a-run"), LiveFeed(context)
    keys = []

    def key() -> str:
        rows = rows_of(context, ["a-run"])
        keys.append(live.Snapshot(context).structure(rows))
        return keys[-1]

    assert key() == key()
    with run.training_lock():
        starting = key()
        run.append_metric(step(1))
        training = key()
        run.append_metric(step(2))
        assert key() == training
        other = made(context, "other")
        with_other = key()
        (other.path / QUEUED).write_text('{"time": 1, "resume": false}', encoding="utf-8")
        assert len({keys[0], starting, training, with_other, key()}) == 5
    assert "other" not in feed._content(rows_of(context, ["a-run"]), "k")["key"]


def test_a_page_shows_no_more_runs_than_there_are_colours_and_none_that_is_gone(context: AppContext) -> None:
    names = [made(context, f"run-{i}").name for i in range(8)]
    assert [run.name for run, *_ in rows_of(context, ["gone", *names])] == names[: live.MAX_SHOWN]
    assert rows_of(context, ["gone"]) == []


def test_the_status_line_is_about_what_trains_then_what_waits_then_the_subject(context: AppContext) -> None:
    names = [made(context, name).name for name in ("third", "second", "first")]

    def followed() -> str:
        row = followed_row(rows_of(context, names))
        assert row is not None
        return row[0].name

    assert followed() == "third"
    (context.library.open("second").path / QUEUED).write_text('{"time": 1, "resume": false}', encoding="utf-8")
    assert followed() == "second"
    with context.library.open("first").training_lock():
        assert followed() == "first"
    assert followed_row([]) is None


def test_without_runs_the_page_says_what_to_do_and_has_empty_charts(context: AppContext) -> None:
    told = content(asyncio.run(LiveFeed(context).latest(())))
    assert "Nothing is training" in told["status"]
    assert told["figures"]["loss"]["data"] == []


def test_however_many_sets_of_runs_are_asked_for_only_some_are_remembered(context: AppContext) -> None:
    feed = LiveFeed(context)

    async def ask() -> None:
        for i in range(3 * live.MAX_MESSAGES):
            await feed.latest((f"run-{i}",))

    asyncio.run(ask())
    assert len(feed._messages) == live.MAX_MESSAGES
