"""The safetensors files of a run: its weights, and arrays measured with them."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from resnet_space.common.errors import UserError
from resnet_space.common.files import replaced_atomically
from resnet_space.runs.files import WEIGHTS, RunFolder

if TYPE_CHECKING:  # torch takes seconds to import, and the page is up before it is needed
    from numpy.typing import NDArray
    from torch import Tensor

    from resnet_space.models import Backbone

# By safetensors' names: of weights, and of what counts the batches that a norm layer has seen.
FLOATS, INTEGERS, COUNTER = ("F32", "F16", "BF16", "F64"), ("I64", "I32", "I16", "I8"), ".num_batches_tracked"

W = TypeVar("W")  # a tensor of any library


class Weights(RunFolder):
    """The part of a run stored in safetensors files."""

    @property
    def has_weights(self) -> bool:
        return (self.path / WEIGHTS).is_file()

    def save_weights(self, state_dict: "Mapping[str, Tensor]") -> None:
        """Replace the weights; stored as contiguous float32, whatever the training's memory format."""
        import safetensors.torch
        import torch

        plain = {
            name: value.detach().to("cpu", memory_format=torch.contiguous_format).clone()
            for name, value in state_dict.items()
        }
        with replaced_atomically(self.path / WEIGHTS) as file:
            safetensors.torch.save_file(plain, file, metadata={"format": "pt"})
            file.chmod(0o644)  # safetensors keeps it from other users, who may serve the app

    def load_weights(self, file: str = WEIGHTS) -> "dict[str, Tensor]":
        """The tensors of a safetensors file of this run, on the CPU: float32, and the norm layers' counters.

        Raises:
            UserError: if it is missing or damaged, or has an unsupported number type.
        """
        import safetensors.torch

        with self._readable(file):
            weight_types(self.path / file, self.name)
            found = safetensors.torch.load_file(self.path / file)
            return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}

    def load_arrays(self, file: str) -> "dict[str, NDArray[Any]] | None":
        """The arrays of a safetensors file of this run; None if there is none. Raises UserError if it is damaged."""
        path = self.existing(file)
        if path is None:
            return None
        with self._readable(path.name):
            return load_file(path)

    def start_arrays(self) -> "dict[str, NDArray[Any]]":
        """The weights for another run to start from, without torch if numpy supports their types. Raises UserError."""
        if not self.has_weights:
            raise UserError(f"{self.name} has no weights to start from: train it for at least one epoch first.")
        with self._readable(WEIGHTS):
            if "BF16" not in weight_types(self.path / WEIGHTS, self.name):
                return load_file(self.path / WEIGHTS)
        return {name: value.numpy() for name, value in self.load_weights().items()}

    @contextmanager
    def _readable(self, file: str) -> Generator[None]:
        try:
            yield
        except FileNotFoundError:
            raise UserError(f"{self.name} has no {file} yet: train it for at least one epoch first.") from None
        # The last two: of types that numpy lacks.
        except (SafetensorError, OSError, TypeError, AttributeError) as error:
            raise UserError(f"The {file} of {self.name} cannot be read: {error}.") from None

    def load_model(self) -> "Backbone":
        """The trained model in eval mode on the CPU. Raises UserError unless the weights fit exactly."""
        model = self.config.model.build_unfilled()
        weights = self.load_weights()
        expected = model.state_dict()
        problems = [f"{name} is missing" for name in expected if name not in weights]
        problems += [f"{name} is unexpected" for name in weights if name not in expected]
        problems += [
            f"{name} has the shape {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
            for name, value in expected.items()
            if name in weights and weights[name].shape != value.shape
        ]
        if problems:
            more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
            what = "; ".join(problems[:3])
            raise UserError(
                f"The {WEIGHTS} of {self.name} does not fit {self.config.model.architecture}: {what}{more}."
            )
        model.load_state_dict(weights)
        return model.eval()


def weight_types(file: Path, whose: str) -> set[str]:
    """The types of numbers in a safetensors file of weights, by safetensors' names; nothing of it is loaded.

    Raises:
        UserError: for unsupported types.
        SafetensorError, OSError: for a file that cannot be read.
    """
    with safe_open(file, "numpy") as opened:
        types = {name: str(opened.get_slice(name).get_dtype()) for name in opened.keys()}  # noqa: SIM118
    for name, kind in types.items():
        if kind not in FLOATS and not (name.endswith(COUNTER) and kind in INTEGERS):
            raise UserError(
                f"The {WEIGHTS} of {whose} cannot be used because its {name} is {kind}: weights must be "
                f"{', '.join(FLOATS)}, not quantised."
            )
    return set(types.values())


def without_head(weights: dict[str, W], head: str) -> dict[str, W]:
    """The weights without the head, which must be new for other classes."""
    return {name: value for name, value in weights.items() if not name.startswith(f"{head}.")}


def array_problem(arrays: "Mapping[str, NDArray[Any]]", expected: Mapping[str, tuple[str, tuple[int, ...]]]) -> str:
    """How untrusted arrays differ from the expected types and shapes; empty if they match."""
    if set(arrays) != set(expected):
        return f"it has {', '.join(sorted(arrays))[:100] or 'nothing'} instead of {', '.join(expected)}"
    for name, (dtype, shape) in expected.items():
        array = arrays[name]
        if array.dtype != dtype or array.shape != shape:
            return f"{name} is {array.dtype} {list(array.shape)} instead of {dtype} {list(shape)}"
    return ""
