"""The Hub from the page: push, pull, sign in, a job; in a real browser, with the real client and a stub Hub."""

import contextlib
import io
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from resnet_space.inference import Classifier
from resnet_space.runs import OWNER, Run
from resnet_space.serve import visitors
from tests.hub_stub import HubStub
from tests.hub_stub.oauth import CLIENT, SCOPES
from tests.hub_stub.store import read
from tests.ui.conftest import PATIENT, REPOSITORY, SHOWN_MS, App, go, pick, wait_for
from tests.ui.test_browser import SETUP, TRAINED_MS, keep, unfold
from tests.ui.test_mcp import PUBLIC

pytestmark = pytest.mark.ui

BOTTOM = "element => element.getBoundingClientRect().bottom"
ANN, BOB = "hf_ann_may_write_0123456789", "hf_bob_may_write_0123456789"
CAT = REPOSITORY / "resnet_space" / "datasets" / "examples" / "cat.jpg"


@pytest.fixture(scope="module")
def people(hub: HubStub) -> HubStub:
    """The Hub with two of its users."""
    hub.add_user(ANN, "ann")
    hub.add_user(BOB, "bob")
    return hub


def with_a_run(app: App, name: str, key: str = "") -> App:
    """A trained run that was made here."""
    made = app.checkpoints / name
    shutil.copytree(app.checkpoints / "resnet20-cbam-cifar10", made)
    if key:
        visitors.claim(made / OWNER, key)
    return app


@pytest.fixture(scope="module")
def anns(tmp_path_factory: pytest.TempPathFactory, people: HubStub) -> Iterator[App]:
    """The app on Ann's own machine, where she is logged in."""
    space = {"RESNET_SPACE_JOBS_SPACE": "ann/resnet-space"}
    running = with_a_run(App(tmp_path_factory.mktemp("anns"), people, HF_TOKEN=ANN, **space), "my-cifar")
    running.start()
    yield running
    running.close()


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, people: HubStub) -> Iterator[App]:
    """The app as a Space, which has a token of its owner's: it must never be used for a visitor."""
    people.signs_in = BOB
    environment = {"SYSTEM": "spaces", "SPACE_ID": "ann/resnet-space", "HF_TOKEN": ANN} | CLIENT
    environment |= {"OAUTH_SCOPES": SCOPES, "OPENID_PROVIDER_URL": people.url, "GRADIO_SERVER_NAME": "127.0.0.1"}
    running = App(tmp_path_factory.mktemp("space"), people, **environment)
    with_a_run(running, "anns-own")
    with_a_run(running, "bobs-run", "the key that bob's browser keeps")
    running.start()
    yield running
    running.close(after_nonsense=True)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    opened = context.new_page()
    opened.set_default_timeout(SHOWN_MS)
    yield opened
    context.close()


def push(page: Page, told: str, target: str | None = None) -> None:
    """Open the panel, which tells who one is on the Hub, and push to the target, or where it suggests."""
    page.get_by_text("Publish on the Hugging Face Hub").click()
    expect(page.get_by_text(told)).to_be_visible(timeout=TRAINED_MS)
    if target is not None:
        page.get_by_label("Repository").locator("visible=true").last.fill(target)
    page.get_by_role("button", name="Push", exact=True).click()


def test_a_run_is_pushed_with_the_login_of_the_machine_pulled_again_and_predicts_the_same(
    anns: App, people: HubStub, page: Page
) -> None:
    go(page, f"{anns.url}/?run=my-cifar")
    expect(page.locator(".status")).to_contain_text("my-cifar", timeout=TRAINED_MS)
    people.slow("/preupload/", 2.0, times=1)
    page.get_by_text("Publish on the Hugging Face Hub").click()
    expect(page.get_by_text("You are signed in as ann.")).to_be_visible(timeout=TRAINED_MS)
    licence = page.get_by_label("Licence").locator("visible=true")
    expect(licence).to_have_value("mit (its own)", timeout=TRAINED_MS)
    pick(licence, "apache-2.0")
    page.get_by_role("button", name="Push", exact=True).click()
    progress = page.locator(".progress-level").filter(has_text="Uploading")
    expect(progress).to_be_visible(timeout=TRAINED_MS)
    # What is below the panel's edge, where the answer is to come, is cut off.
    assert progress.evaluate(f"bar => ({BOTTOM})(bar.closest('.gr-accordion')) > ({BOTTOM})(bar)")
    done = page.locator(".report").filter(has_text="is on the Hub")
    expect(done).to_be_visible(timeout=TRAINED_MS)
    keep(page, "20-pushed")
    files = people.files("ann/my-cifar")
    assert {"config.json", "model.safetensors", "metrics.jsonl", "README.md", "model.py"} <= files.keys()
    assert b"license: apache-2.0" in read(files["README.md"])
    assert people.model("ann/my-cifar").private  # unless one chooses otherwise
    assert b"https://huggingface.co/spaces/ann/resnet-space" in read(people.files("ann/my-cifar")["README.md"])
    commit = people.model("ann/my-cifar").refs["main"]
    assert f"/ann/my-cifar/commit/{commit}" in str(done.get_by_text("this commit").get_attribute("href"))

    page.get_by_role("tab", name="Predict").click()
    page.get_by_text("From the Hugging Face Hub").locator("visible=true").click()
    wanted = page.get_by_label("Model").locator("visible=true")
    wanted.fill("ann/my-cifar")
    wanted.press("Enter")
    expect(page.locator(".report").filter(has_text=f"commit {commit[:7]}")).to_be_visible(timeout=TRAINED_MS)
    page.get_by_role("button", name="Download", exact=True).locator("visible=true").click()
    expect(page.get_by_label("Run").locator("visible=true")).to_have_value("ann.my-cifar", timeout=TRAINED_MS)
    expect(page.locator("#answer .of").filter(has_text="ann.my-cifar")).to_be_visible(
        timeout=TRAINED_MS
    )  # of the cat, the first example
    keep(page, "21-pulled")
    pulled = anns.run("ann.my-cifar")
    assert pulled.source is not None
    assert (pulled.source.repo_id, pulled.source.revision) == ("ann/my-cifar", commit)
    picture = Image.open(CAT).convert("RGB")
    before = Classifier(anns.run("my-cifar")).predict(picture)
    after = Classifier(pulled).predict(picture)
    assert after.probabilities == before.probabilities
    expect(page.locator("#answer .said")).to_contain_text(before.classes[0])


@pytest.mark.long
def test_a_model_that_cannot_be_had_is_told_in_one_sentence_on_the_page(anns: App, page: Page) -> None:
    page.goto(anns.url)
    page.get_by_role("tab", name="Explore residuals").click()
    page.get_by_text("From the Hugging Face Hub").locator("visible=true").click()
    wanted = page.get_by_label("Model").locator("visible=true")
    wanted.fill("nobody/nothing")
    wanted.press("Enter")
    expect(page.locator(".caution").filter(has_text="nobody/nothing does not exist on the Hub")).to_be_visible(
        timeout=TRAINED_MS
    )


def test_on_a_space_a_visitor_signs_in_and_pushes_with_their_own_rights_only(
    space: App, people: HubStub, page: Page
) -> None:
    page.goto(f"{space.url}/?key=the+key+that+bob%27s+browser+keeps&run=bobs-run")
    expect(page.locator(".status")).to_contain_text("bobs-run", timeout=TRAINED_MS)
    before = len(people.requests)
    push(page, "Sign in with Hugging Face at the top of the page", "bob/shared")
    toast = page.get_by_test_id("toast-body")
    expect(toast.filter(has_text="nobody is signed in").first).to_be_visible(timeout=TRAINED_MS)
    page.get_by_text("On a rented GPU: Hugging Face Jobs").click()
    expect(page.locator(".report").filter(has_text="at the time limit")).to_be_visible(timeout=TRAINED_MS)
    page.get_by_label("Repository").locator("visible=true").first.fill("ann/rented")
    page.get_by_role("button", name="Start the job").click()
    expect(toast.filter(has_text="needs a Hugging Face account to pay").first).to_be_visible(timeout=TRAINED_MS)
    assert not people.jobs
    assert all(asked.token is None for asked in people.requests[before:])

    page.get_by_role("button", name="Sign in with Hugging Face").click()
    expect(page.get_by_role("button", name="Logout (bob)")).to_be_visible(timeout=TRAINED_MS)
    go(page, f"{space.url}/?run=bobs-run")
    expect(page.locator(".status")).to_contain_text("bobs-run", timeout=TRAINED_MS)
    push(page, "You are signed in as bob.", "ann/stolen-name")
    expect(toast.filter(has_text="has no write access to ann/stolen-name").first).to_be_visible(timeout=TRAINED_MS)
    page.get_by_label("Repository").locator("visible=true").last.fill("bob/shared")
    page.get_by_role("button", name="Push", exact=True).click()
    expect(page.locator(".report").filter(has_text="is on the Hub")).to_be_visible(timeout=TRAINED_MS)
    keep(page, "22-signed-in")
    sent = {asked.token for asked in people.requests[before:] if not asked.path.startswith("/oauth/")}
    assert sent == {BOB, None}
    assert ("models", "ann/stolen-name") not in people.repositories


def test_a_visitor_cannot_push_what_is_not_theirs_nor_with_the_spaces_token(space: App, people: HubStub) -> None:
    client = Client(space.url, **PATIENT)
    before = len(people.requests)
    for name, key in (("anns-own", ""), ("bobs-run", "guess")):
        with pytest.raises(AppError, match="is not yours"):
            client.predict(name, "ann/taken", key=key, api_name="/push")
    with pytest.raises(AppError, match="nobody is signed in"):
        client.predict("bobs-run", "ann/taken", key="the key that bob's browser keeps", api_name="/push")
    people.add_model("ann/private", {"config.json": b"{}"}, private=True)
    with pytest.raises(AppError, match="does not exist on the Hub, or is private"):
        client.predict("ann/private", api_name="/pull")
    assert all(asked.token is None for asked in people.requests[before:])
    client.close()


def test_a_program_pushes_and_pulls_with_a_token_of_the_client_or_in_a_header(
    space: App, people: HubStub, tmp_path: Path
) -> None:
    client = Client(space.url, oauth_token=BOB, **PATIENT)
    url = client.predict(
        "bobs-run",
        "bob/by-program",
        private=True,
        key="the key that bob's browser keeps",
        licence="cc-by-4.0",
        api_name="/push",
    )
    client.close()
    assert b"license: cc-by-4.0" in read(people.files("bob/by-program")["README.md"])
    client = Client(space.url, headers={"x-hf-token": BOB}, **PATIENT)  # as over MCP
    assert url.startswith(f"{people.url}/bob/by-program/commit/")
    assert people.model("bob/by-program").private
    pulled = client.predict("bob/by-program", api_name="/pull")
    assert space.run(pulled["run"]).source
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {f"/{name}" for name in PUBLIC}
    client.close()
    with pytest.raises(AppError):
        Client(space.url, **PATIENT).predict("bob/by-program", api_name="/pull")


def test_a_training_goes_to_a_job_and_comes_back_live(anns: App, people: HubStub, page: Page) -> None:
    page.goto(anns.url)
    unfold(page, SETUP)
    page.get_by_label("Epochs", exact=True).fill("1")
    page.get_by_text("On a rented GPU: Hugging Face Jobs").click()
    cost = page.locator(".report").filter(has_text="at most $0.13 at the time limit")
    expect(cost).to_contain_text("Nvidia T4 - small: 1 x T4, 16 GB: $0.40 an hour", timeout=TRAINED_MS)
    keep(page, "23-job-cost")
    repository = page.get_by_label("Repository").locator("visible=true").first
    asked_for = repository.input_value()
    page.get_by_role("button", name="Start the job").click()
    expect(page.locator(".status")).to_contain_text("job of the Hub", timeout=TRAINED_MS)
    expect(repository).not_to_have_value(asked_for)  # that of the next job
    expect(page.locator(".status.finished")).to_contain_text("has finished", timeout=2 * TRAINED_MS)
    keep(page, "24-job-finished")
    (job,) = people.jobs.values()
    wait_for(lambda: job.stage == "COMPLETED")
    assert job.asked["secrets"] == {"HF_TOKEN": ANN}
    (made,) = [path for path in anns.checkpoints.iterdir() if path.name.startswith("fine-tune")]
    assert Run.open(made).has_weights


def test_none_of_this_has_written_a_token(anns: App, space: App, people: HubStub) -> None:
    folders = [anns.checkpoints.parent, space.checkpoints.parent, *(job.folder for job in people.jobs.values())]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert {"app.log", "metrics.jsonl", "log", "model.safetensors"} <= {path.name for path in files}
    for token in (ANN, BOB, CLIENT["OAUTH_CLIENT_SECRET"]):
        assert [path for path in files if token.encode() in path.read_bytes()] == []
    pushed = [
        content
        for kept in people.repositories.values()
        for files in kept.commits.values()
        for content in files.values()
    ]
    assert not any(token.encode() in read(content) for content in pushed for token in (ANN, BOB))


def test_the_readmes_ten_lines_go_from_a_zip_of_pictures_to_a_published_model(
    anns: App, people: HubStub, tmp_path: Path
) -> None:
    section = (REPOSITORY / "README.md").read_text(encoding="utf-8").split("## By HTTP\n")[1]
    code = section.split("```python\n")[1].split("```")[0]
    assert len(list(filter(None, code.splitlines()))) == 10
    assert f"```python\n{code}```" in (REPOSITORY / "SKILL.md").read_text(encoding="utf-8")
    for written, here in (("http://127.0.0.1:7860", anns.url), ("user/model", "ann/pets")):
        assert code.count(written) == 1
        code = code.replace(written, here)
    random = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for name, colour in (("red", (200, 40, 40)), ("blue", (40, 40, 200))):
            for i in range(20):
                noise = np.clip(random.normal(colour, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
                buffer = io.BytesIO()
                Image.fromarray(noise).save(buffer, "PNG")
                archive.writestr(f"{name}/{i}.png", buffer.getvalue())
                (tmp_path / "picture.png").write_bytes(buffer.getvalue())
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.chdir(tmp_path):
        exec(compile(code, "README.md", "exec"), {})
    accuracy, _, rest = said.getvalue().splitlines()[-1].partition(" ")
    assert float(accuracy) > 0.8
    assert "'label': 'blue'" in rest
    assert f"/ann/pets/commit/{people.model('ann/pets').refs['main']}" in rest
    assert {"config.json", "model.safetensors", "README.md"} <= people.files("ann/pets").keys()


@pytest.mark.long
def test_the_page_of_a_run_is_published_as_a_static_space_from_the_panel_and_by_programs(
    anns: App, people: HubStub, page: Page
) -> None:
    go(page, f"{anns.url}/?run=my-cifar")
    expect(page.locator(".status")).to_contain_text("my-cifar", timeout=TRAINED_MS)
    page.get_by_text("Publish on the Hugging Face Hub").click()
    expect(page.get_by_text("You are signed in as ann.")).to_be_visible(timeout=TRAINED_MS)
    page.get_by_label("Web page that runs the model").locator("visible=true").last.check()
    page.get_by_label("Repository").locator("visible=true").last.fill("ann/my-page")
    page.get_by_role("button", name="Push", exact=True).click()
    done = page.locator(".report").filter(has_text="runs as a page")
    expect(done).to_be_visible(timeout=2 * TRAINED_MS)
    assert f"{people.url}/spaces/ann/my-page" in str(done.get_by_role("link").get_attribute("href"))
    keep(page, "22-page-published")
    space = people.repositories["spaces", "ann/my-page"]
    assert (space.sdk, space.private) == ("static", True)
    assert b"sdk: static" in read(space.commits[space.refs["main"]]["README.md"])

    client = Client(anns.url, **PATIENT)
    address = client.predict("my-cifar", "ann/my-page", page=True, api_name="/push")
    assert address == f"{people.url}/spaces/ann/my-page"
    with pytest.raises(AppError, match="no write access to bob/page"):
        client.predict("my-cifar", "bob/page", page=True, api_name="/push")
    client.close()
