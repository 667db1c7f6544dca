"""Record the outputs of named modules during a forward pass, reduced or cloned inside the hook."""

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn

Hook = Callable[[nn.Module, tuple[Any, ...], Any], Any]  # (module, its inputs, its output) -> another output, or None
Measured = TypeVar("Measured")
Measure = Callable[[tuple[Tensor, ...], Tensor], Measured]


@contextmanager
def hooked(model: nn.Module, hooks: Iterable[tuple[str, Hook]]) -> Generator[None]:
    """Forward hooks by the names of their modules, inside the `with` only, also after an exception.

    They run in their order, and before a module's own: they see what it gives before the CBAM of `stage_cbams`.
    """
    handles = []
    try:
        for name, hook in reversed(list(hooks)):
            handles.append(model.get_submodule(name).register_forward_hook(hook, prepend=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recorded(model: nn.Module, measures: Mapping[str, Measure[Measured]]) -> Generator[dict[str, list[Measured]]]:
    """Measure the named modules at each of their forward passes inside the `with`.

    Args:
        model: its hooks are removed at the end, also after an exception.
        measures: module name -> function of (the module's inputs, its output). It must not keep a reference to a tensor
            that the model changes in place afterwards: reduce it, or clone it.

    Yields:
        module name -> what its measure returned, one entry a forward pass; filled while the model runs.
    """
    results: dict[str, list[Measured]] = {name: [] for name in measures}

    def hook(name: str, measure: Measure[Measured]) -> Hook:
        return lambda _module, inputs, output: results[name].append(measure(inputs, output))

    with hooked(model, [(name, hook(name, measure)) for name, measure in measures.items()]):
        yield results


@contextmanager
def unfused(model: nn.Module, weights: Iterable[str]) -> Generator[None]:
    """Let timm's attentions, the parents of these modules, compute their weights inside the `with`; its fused one keeps
    none.
    """
    parents = [model.get_submodule(name.rpartition(".")[0]) for name in weights]
    fused: list[Any] = [module for module in parents if getattr(module, "fused_attn", False)]
    try:
        for module in fused:
            module.fused_attn = False
        yield
    finally:
        for module in fused:
            module.fused_attn = True


@contextmanager
def eval_mode(model: nn.Module) -> Generator[None]:
    """Put a model into eval mode temporarily, so that measuring it does not change its BatchNorm statistics."""
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in was_training.items():
            module.training = training
