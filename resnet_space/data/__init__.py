"""Datasets: their location, splits and batches.

The public API is here and is imported lazily; everything else is in the modules.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet_space.data.archives import import_archive, import_folder
    from resnet_space.data.hub import describe_dataset
    from resnet_space.data.splits import load_splits
    from resnet_space.data.versions import apply_decisions

_PUBLIC = {
    "apply_decisions": "versions",
    "import_archive": "archives",
    "import_folder": "archives",
    "describe_dataset": "hub",
    "load_splits": "splits",
}
_ABOVE = {"check_data": "resnet_space.check"}  # public here, too, although it needs the networks of layers above

__all__ = ["apply_decisions", "check_data", "describe_dataset", "import_archive", "import_folder", "load_splits"]


def __getattr__(name: str) -> Any:
    module = _ABOVE.get(name) or (f"{__name__}.{_PUBLIC[name]}" if name in _PUBLIC else None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)
