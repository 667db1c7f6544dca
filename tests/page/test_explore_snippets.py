"""The lines of Python beside each view of the Explore tab: they run as they are, and print what the view shows."""

from pathlib import Path

import pytest

from resnet_space.residuals import last, measure, probe, probe_batches
from resnet_space.runs import SHOWPIECE, Run
from resnet_space.ui.explore.growth import growth_lines
from resnet_space.ui.explore.images import Images
from resnet_space.ui.explore.networks import RANDOM, UNTRAINED, Network
from resnet_space.ui.explore.snippets import Python
from resnet_space.ui.explore.views import VIEWS
from resnet_space.ui.explore.views.norms import Norms

REPOSITORY = Path(__file__).parents[2]
SOME = Images("cifar10-mini", "test", 4)
OWN = Images(files=(str(REPOSITORY / "resnet_space" / "datasets" / "examples" / "cat.jpg"),))
SHOWN = Network(SHOWPIECE)
PICTURES = Python("block_pictures", "block_pictures(model, torch.cat(images)[0][None], 'layer2.1', None)", "found.sum")
LINES = {view.key: view.python() for view in VIEWS} | {"before-gate": Norms().python("before-gate")}
LINES["pictures"] = PICTURES


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> "Printed":
    monkeypatch.chdir(REPOSITORY)
    return Printed(capsys)


class Printed:
    """What lines of Python print, run in the folder of the app."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, lines: str) -> str:
        exec(lines, {})
        return self._capsys.readouterr().out


def test_the_lines_of_the_norms_print_the_measured_numbers(printed: Printed) -> None:
    run = Run.open(REPOSITORY / "checkpoints" / SHOWPIECE)
    model, config = run.load_model(), run.config.model
    images = [batch for batch, _ in probe_batches(probe("cifar10-mini", "test", 4, config), config)]
    found = last(measure(model, images))
    out = printed(LINES["norms"].lines(SHOWN, SOME))
    assert str(found.norms.blocks) in out
    assert str(found.norms.ratio.quantile(0.5, dim=1)) in out


@pytest.mark.parametrize("view", LINES)
def test_the_lines_of_every_view_run_for_images_of_a_data_set(view: str, printed: Printed) -> None:
    out = printed(LINES[view].lines(SHOWN, SOME))
    assert ("layer3.2" in out) == (view != "pictures")


@pytest.mark.parametrize("view", [view for view in LINES if "batches" not in LINES[view].measured])
def test_the_lines_run_for_a_picture_of_ones_own(view: str, printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(OWN.files[0]).parent)  # the file lies beside the lines, the runs' folder above
    lines = LINES[view].lines(SHOWN, OWN)
    assert printed(lines.replace("checkpoints/", f"{REPOSITORY}/checkpoints/")).strip()


def test_the_lines_of_an_untrained_twin_give_other_numbers_than_those_of_the_run(printed: Printed) -> None:
    networks = (SHOWN, Network(SHOWPIECE, UNTRAINED))
    trained, untrained = (printed(LINES["norms"].lines(network, SOME)) for network in networks)
    assert "layer3.2" in trained
    assert "layer3.2" in untrained
    assert trained != untrained


def test_the_lines_of_a_network_of_torchvision_run(printed: Printed) -> None:
    one = Images("cifar10-mini", "test", 1)
    assert "layer4.2" in printed(LINES["norms"].lines(Network("resnet50", RANDOM), one))


def test_the_lines_of_the_growth_read_the_runs_metrics() -> None:
    lines = growth_lines(SHOWPIECE)
    assert f"recorded_growth(Run.open('checkpoints/{SHOWPIECE}').metrics())" in lines
    compile(lines, "growth", "exec")


def test_a_hostile_name_stays_a_text_in_the_lines() -> None:
    name = "x'); print('gone') #\n"
    lines = LINES["norms"].lines(SHOWN, Images(name, "test", 64))
    assert repr(name) in lines
    assert len(lines.splitlines()) == len(LINES["norms"].lines(SHOWN, Images("x", "test", 64)).splitlines())
