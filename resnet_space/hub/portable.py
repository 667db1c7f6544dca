"""What makes a pushed run load without this package: timm's entries in `config.json`, or one file of source code.

A network that timm has, with the same parameter names, loads by `timm.create_model("hf-hub:user/name")` and by
transformers, whose wrapper of timm reads the same entries. Any other brings `model.py`, made of this package's own
source, which reads the weights beside it. It needs PyTorch, and nothing more for the networks of this package. One of
timm's or torchvision's with a CBAM or a stem for small images is still built by that library: a copy of its source, of
thousands of lines and with a licence of its own, would be harder to read and to trust than `pip install timm`.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.data.images import to_model_size
from resnet_space.models.source import network_source

MODEL_FILE = "model.py"
_IMPORTS = (
    ("json", ""),
    ("sys", ""),
    ("functools", "cache"),
    ("pathlib", "Path"),
    ("numpy as np", ""),
    ("torch", ""),
    ("PIL", "Image"),
    ("safetensors.torch", "load_file"),
)


def portable_config(config: RunConfig, licence: str) -> bytes:
    """The content of a pushed `config.json`: the run's own, and timm's entries beside it where timm has the network."""
    entries = config.to_json() | timm_entries(config.model, licence)
    return (json.dumps(entries, indent=2, ensure_ascii=False) + "\n").encode()


def timm_entries(model: ModelConfig, licence: str) -> dict[str, Any]:
    """The model as timm's `config.json` describes it, preprocessing included; empty for a network that timm lacks."""
    found = model.entry.in_timm(model.options, model.image_size)
    if found is None:
        return {}
    architecture, arguments = found
    entries: dict[str, Any] = {
        "architecture": architecture,
        "num_classes": len(model.classes),
        "label_names": list(model.classes),
        "torch_dtype": "float32",  # transformers would compute in the weights' own type, be it half precision
    }
    if arguments:
        entries["model_args"] = arguments
    return entries | {
        "pretrained_cfg": {
            "input_size": [3, model.image_size, model.image_size],
            "interpolation": "bicubic",
            "crop_pct": crop_share(model.image_size, model.stored_size),
            "crop_mode": "center",
            "mean": list(model.mean),
            "std": list(model.std),
            "num_classes": len(model.classes),
            "classifier": model.entry.head,
            "license": licence,
        }
    }


def crop_share(size: int, stored: int) -> float:
    """timm's `crop_pct`: the shortest fraction for which floor(size / fraction) is the side before the crop."""
    shares: Iterator[float] = (math.floor(size / stored * 10**i) / 10**i for i in range(1, 16))
    return next(share for share in shares if share and math.floor(size / share) == stored)


def is_in_timm(model: ModelConfig) -> bool:
    return bool(timm_entries(model, ""))


def model_file(model: ModelConfig) -> str:
    """The content of `model.py`; empty for a network that timm has, or whose source cannot be taken out of its module.

    Of names from outside, such as those of classes, it has none: it reads them from `config.json`.
    """
    if is_in_timm(model):
        return ""
    import jinja2

    try:
        source = network_source(model.entry, len(model.classes), model.options, [to_model_size], _IMPORTS)
    except UserError:
        return ""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), keep_trailing_newline=True, autoescape=False
    )
    title = ", ".join(filter(None, [model.architecture, model.entry.words(model.options)]))
    return environment.get_template(f"{MODEL_FILE}.jinja").render(
        title=title, source=source.rstrip(), needs=needs(source)
    )


def needs(source: str) -> str:
    """The packages that a `model.py` imports, as pip names them; empty without one."""
    if not source:
        return ""
    imported = set(re.findall(r"^(?: {4})?(?:import|from) (\w+)", source, re.MULTILINE))
    own = [name for name in ("torch", "torchvision", "timm") if name in imported]
    return " ".join([*own, "safetensors", "pillow", "numpy"])
