"""Look inside a model while it runs: named modules -> tensors, reduced or cloned inside the hook."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from torch import Tensor, nn

Measured = TypeVar("Measured")
Measure = Callable[[tuple[Tensor, ...], Tensor], Measured]


@contextmanager
def recorded(model: nn.Module, measures: Mapping[str, Measure[Measured]]) -> Iterator[dict[str, list[Measured]]]:
    """Measure the named modules at each of their forward passes inside the `with`.

    Args:
        model: its hooks are removed at the end, also after an exception.
        measures: module name -> function of (the module's inputs, its output). It must not keep a reference to a tensor
            that the model changes in place afterwards: reduce it, or clone it.

    Yields:
        module name -> what its measure returned, one entry a forward pass; filled while the model runs.
    """
    results: dict[str, list[Measured]] = {name: [] for name in measures}

    def hook(name: str, measure: Measure[Measured]) -> Callable[..., None]:
        return lambda _module, inputs, output: results[name].append(measure(inputs, output))

    handles = []
    try:
        for name, measure in measures.items():
            handles.append(model.get_submodule(name).register_forward_hook(hook(name, measure)))
        yield results
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode and give it back as it was: looking at it must not change its BatchNorm statistics."""
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in was_training.items():
            module.training = training
