"""The app on a simulated ZeroGPU Space: no process trains, the event that starts a run does, in slices."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from gradio_client import Client
from playwright.sync_api import Browser, expect

from resnet_space.runs import Library, Run, last_metric
from resnet_space.serve.zero.host import LEFT
from tests.hub_stub import HubStub
from tests.ui.conftest import PATIENT, App
from tests.ui.test_browser import SETUP, unfold
from tests.zero_stub import HEADER, SPACE, ZeroGPUStub, visitor_token

TOKEN = visitor_token("reader")
END_SECONDS = 240


@pytest.fixture(scope="module")
def zero() -> Iterator[ZeroGPUStub]:
    with ZeroGPUStub() as running:
        yield running


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, hub: HubStub, zero: ZeroGPUStub) -> Iterator[App]:
    running = App(tmp_path_factory.mktemp("space"), hub, SPACE_ID="reader/space", **zero.environment)
    running.run_as([*SPACE, "app"])
    running.start()
    yield running
    running.close()


def wait_until_ended(run: Run) -> dict[str, Any]:
    deadline = time.monotonic() + END_SECONDS
    while (end := last_metric(run.metrics(), "end")) is None or run.is_training:
        assert time.monotonic() < deadline, "it did not end"
        time.sleep(0.1)
    return end


@pytest.mark.long
def test_a_visitors_training_takes_several_slices_of_their_quota(space: App, zero: ZeroGPUStub) -> None:
    assert zero.started  # the package found a GPU function, without which a ZeroGPU Space is ended
    client = Client(space.url, headers={HEADER: TOKEN}, **PATIENT)
    # Large batches are slower here than a GPU is expected to be: the first slice is too short for them.
    job = client.submit(epochs=5, batch_size=512, api_name="/start_training")
    status = job.result(END_SECONDS)
    states = [output["state"] for output in job.outputs()]
    assert states[0] == "queued"
    assert "training" in states
    last = job.outputs()[-1]
    assert last["state"] == "finished", last
    assert status["run"] == last["run"]
    assert len(zero.asked) >= 2
    assert {asked.token for asked in zero.asked} == {TOKEN}
    assert zero.released == [False] * len(zero.asked)
    assert space.trainer_pids(last["run"]) == []
    assert client.predict(last["run"], api_name="/training_status")["state"] == "finished"
    client.close()


@pytest.mark.long
@pytest.mark.ui
def test_a_page_tells_the_quota_trains_and_stops_when_it_is_closed(
    space: App, zero: ZeroGPUStub, browser: Browser
) -> None:
    before = len(zero.released)
    context = browser.new_context(extra_http_headers={HEADER: TOKEN})
    page = context.new_page()
    page.goto(space.url)
    unfold(page, SETUP)
    unfold(page, "Plan")
    expect(page.get_by_text("of GPU time. ZeroGPU gives each visitor a few minutes per day")).to_be_visible()
    page.get_by_label("Epochs", exact=True).fill("40")
    known = {run.name for run in Library(space.checkpoints).runs()}
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator(".status")).to_contain_text("is training on the", timeout=1000 * END_SECONDS)
    (run,) = (run for run in Library(space.checkpoints).runs() if run.name not in known)
    expect(page.locator("#live table")).to_contain_text(run.name)
    assert space.trainer_pids(run.name) == []
    page.close()
    end = wait_until_ended(run)
    assert (end["status"], end["reason"]) == ("stopped", LEFT)
    assert zero.released[before:] == [False]  # the slice ended by itself, and saved its state

    page = context.new_page()
    page.goto(space.url)
    expect(page.locator(".status")).to_contain_text("was stopped. The page that started the training was closed.")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".status")).to_contain_text("is training on the", timeout=1000 * END_SECONDS)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".status")).to_contain_text("was stopped.", timeout=1000 * END_SECONDS)
    assert not run.is_training
    context.close()
