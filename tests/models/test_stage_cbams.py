"""A CBAM after the stages of networks whose families know none: of timm, and of somebody else."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig
from resnet_space.explain import attention_maps
from resnet_space.models import CBAM, Backbone, create_model, register
from resnet_space.models.hooks import recorded
from resnet_space.models.registry import CBAM_PARTS, unregister
from resnet_space.models.stage_cbams import with_stage_cbams
from resnet_space.models.timm_networks import timm_entry
from resnet_space.residuals import Lesion, last, lesioned
from resnet_space.residuals import lesions as lesions_module
from resnet_space.training import distributed
from tests import own_networks
from tests.networks import alive

TIMMS = timm_entry(
    "resnet10t", family="resnet", year=2021, paper="", depth=12, parameters=5_436_120, head="fc", blocks=(1, 1, 1, 1)
)
SIZES = {"tf_efficientnet_lite0": 96, "own-residual": own_networks.SIZE, "resnet10t": 64}


@pytest.fixture(scope="module", autouse=True)
def networks() -> Iterator[None]:
    with own_networks.registered():
        register(TIMMS)
        yield
        unregister(TIMMS.name)


def images(size: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("place", ["stage", "last"])
@pytest.mark.parametrize("name", SIZES)
@torch.inference_mode()
def test_at_first_the_logits_are_those_without(name: str, place: str) -> None:
    torch.manual_seed(0)
    plain = create_model(name, 5)
    torch.manual_seed(0)
    gated = create_model(name, 5, cbam=place)
    x = images(SIZES[name])
    torch.testing.assert_close(gated.eval()(x), plain.eval()(x), rtol=0, atol=1e-6)
    own = gated.state_dict()
    assert all(torch.equal(own[key], value) for key, value in plain.state_dict().items())
    added = {parameter for part in gated.parts() if part.name in CBAM_PARTS for parameter in part.parameters}
    assert set(own) - set(plain.state_dict()) == added


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        (
            "tf_efficientnet_lite0",  # timm looks at five resolutions, and at the features at last
            {"cbam1": "blocks.0", "cbam2": "blocks.1", "cbam3": "blocks.2", "cbam5": "blocks.4", "cbam7": "bn2"},
        ),
        ("resnet10t", {f"cbam{i}": f"layer{i}" for i in (1, 2, 3, 4)}),  # and none after the stem, which is no stage
        ("own-residual", {"cbam1": "blocks.0", "cbam2": "blocks.1"}),
    ],
)
def test_each_follows_the_module_that_ends_its_stage(name: str, ends: dict[str, str]) -> None:
    model = alive(create_model(name, 5, cbam="stage"), SIZES[name])
    assert list(model.attention()) == list(ends)
    clones = dict.fromkeys([*ends, *ends.values()], lambda inputs, output: (inputs[0].clone(), output.clone()))
    with torch.inference_mode(), recorded(model, clones) as seen:
        model(images(SIZES[name]))
    for cbam, end in ends.items():
        (taken, given), (_, before) = seen[cbam][0], seen[end][0]
        assert torch.equal(taken, before)
        assert not torch.allclose(given, taken)
    last_one = alive(create_model(name, 5, cbam="last"), SIZES[name])
    assert list(last_one.attention()) == list(ends)[-1:]
    gates = attention_maps(model, images(SIZES[name])).spatial
    assert list(gates) == list(ends)
    assert all(gate.std() > 0 for gate in gates.values())


@torch.inference_mode()
def test_the_forward_pass_is_stage_gate_stage_gate_head() -> None:
    model = alive(create_model("own-residual", 5, cbam="stage"), own_networks.SIZE)
    x = images(own_networks.SIZE)
    state = model.stem(x)
    for block, cbam in zip(model.blocks, (model.cbam1, model.cbam2), strict=True):
        state = state + block.branch(state)
        state = state * cbam.channel(state)
        state = state * cbam.spatial(state)
    torch.testing.assert_close(model(x), model.head(state.mean((2, 3))), rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_a_copy_goes_through_its_own_gates() -> None:
    model = alive(create_model("own-residual", 5, cbam="stage"), own_networks.SIZE)
    x = images(own_networks.SIZE)
    before = model(x)
    other = copy.deepcopy(model)
    assert torch.equal(other(x), before)
    nn.init.zeros_(other.cbam2.spatial.conv.weight)
    assert not torch.equal(other(x), before)
    assert torch.equal(model(x), before)


@torch.inference_mode()
def test_a_stage_without_its_block_keeps_its_gates() -> None:
    model = alive(create_model("own-residual", 5, cbam="stage"), own_networks.SIZE)
    x = images(own_networks.SIZE, 16)
    labels = model.forward_head(model.cbam2(model.blocks[1](model.cbam1(model.stem(x))))).argmax(1)
    found = last(lesioned(model, [(x, labels)], [Lesion("drop", ("blocks.0",))]))
    assert found.accuracy[0] == 1


@pytest.mark.parametrize("cbam", [None, "stage"])
@torch.inference_mode()
def test_efficientnets_lesions_are_the_same_step_by_step_and_by_hooks(
    cbam: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = alive(create_model("tf_efficientnet_lite0", 5, cbam=cbam), 64)
    batches = [(images(64, 12), torch.arange(12) % 5)]
    lesions = [
        Lesion("drop", ("blocks.1.1",)),
        Lesion("drop", ("blocks.4.2",)),
        Lesion("swap", ("blocks.5.1", "blocks.5.2")),
    ]
    walked = last(lesioned(model, batches, lesions))
    monkeypatch.setattr(lesions_module, "_can_walk", lambda *_: False)
    anew = last(lesioned(model, batches, lesions))
    torch.testing.assert_close(walked.loss, anew.loss, rtol=1e-5, atol=1e-6)
    assert (walked.loss - walked.base_loss).abs().min() > 1e-3


def test_more_gpus_than_one_take_the_gates_along(monkeypatch: pytest.MonkeyPatch) -> None:
    model = alive(create_model("tf_efficientnet_lite0", 5, cbam="stage"), 64)
    x = images(64)
    with torch.inference_mode():
        before = model(x)
        monkeypatch.setattr(distributed, "count", lambda: 2)
        converted = distributed.with_shared_statistics(model, torch.device("cuda")).eval()
        assert any(isinstance(module, nn.SyncBatchNorm) for module in converted.modules())
        torch.testing.assert_close(converted(x), before, rtol=1e-4, atol=1e-5)


def test_a_network_without_maps_says_why_it_takes_none() -> None:
    why = r"^own-mixer does not support CBAM because its stages output tokens, not feature maps: choose no CBAM.$"
    for cbam in (None, "stage"):
        with pytest.raises(UserError, match=why):
            create_model("own-mixer", 5, cbam=cbam)
    with pytest.raises(UserError, match=why):
        ModelConfig("own-mixer", ("a", "b"), {"cbam": "stage"})
    with pytest.raises(UserError, match="convnext_tiny does not support CBAM because it can only be explored"):
        ModelConfig("convnext_tiny", ("a", "b"), {"cbam": "stage"})
    mixer = create_model("own-mixer", 5)
    with pytest.raises(
        UserError, match=r"^This MlpMixer does not support CBAM because its stages do not output feature maps.$"
    ):
        with_stage_cbams(mixer, own_networks.SIZE)
    with pytest.raises(UserError, match="The CBAM option must be one of None, stage, last, not 'block'"):
        create_model("tf_efficientnet_lite0", 5, cbam="block")


def test_its_entry_offers_it_in_words() -> None:
    for place, words in ((None, ""), ("stage", "CBAM after every stage"), ("last", "CBAM after the last stage")):
        config = ModelConfig("own-residual", ("a", "b"), {"cbam": place})
        assert config.entry.words(config.options) == words
        assert config.added_parts == (CBAM_PARTS if place else ())


def test_a_family_with_cbam_of_its_own_keeps_it() -> None:
    model = create_model("resnet20", 5, cbam="stage")
    assert type(model).__mro__[1] is Backbone
    assert isinstance(model.cbam1, CBAM)
    with pytest.raises(UserError, match="must be one of None, stage, block"):
        create_model("resnet20", 5, cbam="last")
