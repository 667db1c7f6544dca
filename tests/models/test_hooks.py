import pytest
import torch
from torch import Tensor, nn

from resnet_space.models.hooks import eval_mode, recorded


def small_network() -> nn.Sequential:
    """Linear, an in-place ReLU that changes the Linear's output, Linear."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 2))


def batch(seed: int, rows: int = 3) -> Tensor:
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))


def hooks_on(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


# What is recorded


def test_a_measure_sees_the_modules_inputs_and_its_output() -> None:
    model, x = small_network(), batch(1)
    first, last = model[0], model[2]
    measures = {"2": lambda inputs, output: (len(inputs), inputs[0].clone(), output.clone())}
    with torch.no_grad(), recorded(model, measures) as results:
        logits = model(x)
        hidden = (x @ first.weight.T + first.bias).clamp(min=0)
        expected = hidden @ last.weight.T + last.bias
    ((count, seen, given),) = results["2"]
    assert count == 1
    torch.testing.assert_close(seen, hidden)
    torch.testing.assert_close(given, expected)
    assert torch.equal(given, logits)


def test_every_forward_pass_adds_one_entry_in_order() -> None:
    model = small_network()
    batches = [batch(seed, rows) for seed, rows in ((1, 3), (2, 1), (3, 7))]
    measures = {"0": lambda _inputs, output: output.clone(), "2": lambda _inputs, output: output.clone()}
    with torch.no_grad():
        expected = [model[0](x) for x in batches]
        with recorded(model, measures) as results:
            logits = [model(x) for x in batches]
    assert list(results) == ["0", "2"]
    for name, values in (("0", expected), ("2", logits)):
        assert len(results[name]) == 3
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(results[name], values, strict=True))


def test_a_module_that_runs_twice_in_one_pass_is_measured_twice() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    with torch.no_grad(), recorded(model, {"0": lambda _inputs, output: output.clone()}) as results:
        logits = model(batch(1))
    first, second = results["0"]
    torch.testing.assert_close(layer(first.tanh()), second)
    assert torch.equal(second, logits)


def test_a_measure_runs_before_the_output_is_changed_in_place() -> None:
    model, x = small_network(), batch(1, rows=20)
    expected = model[0](x).min().item()
    measures = {"0": lambda _inputs, output: (output.min().item(), output)}
    with torch.no_grad(), recorded(model, measures) as results:
        model(x)
    ((smallest, kept),) = results["0"]
    assert smallest == pytest.approx(expected)
    assert smallest < 0
    assert kept.min() == 0  # the trap: a reference that is kept shows what the ReLU made of it


def test_only_passes_inside_the_with_are_recorded_and_they_stay_readable() -> None:
    model = small_network()
    model(batch(1))
    with recorded(model, {"2": lambda _inputs, output: len(output)}) as results:
        model(batch(2, rows=5))
    model(batch(3))
    assert results == {"2": [5]}


def test_a_module_that_does_not_run_has_no_entries() -> None:
    model = small_network()
    with recorded(model, {"0": lambda _inputs, _output: 1, "2": lambda _inputs, _output: 1}) as results:
        model[0](batch(1))
    assert results == {"0": [1], "2": []}


def test_measuring_changes_no_result() -> None:
    model, x = small_network(), batch(1)
    expected = model(x)
    with recorded(model, {name: (lambda _inputs, output: output.norm()) for name in ("0", "1", "2")}):
        assert torch.equal(model(x), expected)


# Nothing is left behind


def test_hooks_are_gone_afterwards_and_only_ours() -> None:
    model = small_network()
    seen: list[int] = []
    model[2].register_forward_hook(lambda _module, _inputs, output: seen.append(len(output)))
    with recorded(model, {"0": lambda _inputs, _output: 0, "2": lambda _inputs, _output: 0}):
        assert hooks_on(model) == 3
    assert hooks_on(model) == 1
    model(batch(1, rows=6))
    assert seen == [6]


def test_hooks_are_gone_after_an_exception_in_the_with() -> None:
    model = small_network()
    with pytest.raises(KeyboardInterrupt), recorded(model, {"0": lambda _inputs, _output: 0}):
        raise KeyboardInterrupt
    assert hooks_on(model) == 0


def test_hooks_are_gone_after_an_exception_in_a_measure() -> None:
    model = small_network()
    with pytest.raises(ZeroDivisionError), recorded(model, {"0": lambda _inputs, _output: 1 // 0}):
        model(batch(1))
    assert hooks_on(model) == 0


def test_hooks_are_gone_after_an_unknown_name() -> None:
    model = small_network()
    measures = {"0": lambda _inputs, _output: 0, "no-such-module": lambda _inputs, _output: 0}
    with pytest.raises(AttributeError, match="no-such-module"), recorded(model, measures):
        pytest.fail("the with was entered")
    assert hooks_on(model) == 0


def test_two_recordings_at_once_do_not_disturb_each_other() -> None:
    model = small_network()
    with recorded(model, {"0": lambda _inputs, _output: "outer"}) as outer:
        with recorded(model, {"0": lambda _inputs, _output: "inner"}) as inner:
            model(batch(1))
        model(batch(2))
    assert (outer, inner) == ({"0": ["outer", "outer"]}, {"0": ["inner"]})


# Eval mode


def mixed_modes() -> nn.Sequential:
    """A frozen part in a network that trains, and a part that trains within the frozen one."""
    model = nn.Sequential(
        nn.Linear(4, 4), nn.Sequential(nn.BatchNorm1d(4), nn.Dropout()), nn.BatchNorm1d(4), nn.Dropout()
    ).train()
    model[1].eval()
    model[1][1].train()
    model[3].eval()
    return model


def modes(model: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules()}


@pytest.mark.parametrize("training", [True, False])
def test_eval_mode_gives_the_model_back_in_its_own_mode(training: bool) -> None:
    model = mixed_modes().train(training)
    with eval_mode(model):
        assert not any(modes(model).values())
    assert set(modes(model).values()) == {training}


def test_eval_mode_gives_every_submodule_its_own_mode_back() -> None:
    model = mixed_modes()
    before = modes(model)
    assert before == {"": True, "0": True, "1": False, "1.0": False, "1.1": True, "2": True, "3": False}
    with eval_mode(model):
        assert not any(modes(model).values())
    assert modes(model) == before


def test_eval_mode_gives_the_modes_back_after_an_exception() -> None:
    model = mixed_modes()
    before = modes(model)
    with pytest.raises(ZeroDivisionError), eval_mode(model):
        raise ZeroDivisionError
    assert modes(model) == before


def test_in_eval_mode_batchnorm_statistics_stay_as_they_are() -> None:
    model, x = mixed_modes(), batch(1, rows=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with eval_mode(model):
        model(x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model(x)  # while in training it does change them
    assert not torch.equal(model.state_dict()["2.running_mean"], before["2.running_mean"])
