"""A run as a page that needs no server: one HTML file that has the model and ONNX Runtime Web in it.

The page's policy lets it connect to nothing, not even to where it came from, so no picture can leave the visitor's
device. It opens from a folder, too, where a browser would not fetch a second file. `ort.wasm.bundle.min.mjs` and the
WebAssembly, here compressed, are those of the npm package onnxruntime-web 1.30.0 (MIT licence, Microsoft Corporation).
`jpeg-turbo.wasm.gz` is libjpeg-turbo, of the npm package @cwasm/jpeg-turbo 0.1.3 (MIT licence): its pixels are those of
Pillow, to the bit, which those of browsers are not.
"""

import base64
import gzip
import hashlib
import html
import json
import re
from pathlib import Path
from string import Template
from typing import Any

from resnet_space.common.errors import UserError
from resnet_space.common.text import percent
from resnet_space.config import ModelConfig
from resnet_space.hub.licence import licence_of
from resnet_space.inference import UNCALIBRATED, UNUSUAL, preprocessing_words
from resnet_space.runs import CARD, FEATURE_STATISTICS, NOTICE, Run, last_metric

HERE = Path(__file__).parent
RUNTIME_VERSION = "1.30.0"
RUNTIME, WASM = HERE / "ort.wasm.bundle.min.mjs", HERE / "ort-wasm-simd-threaded.wasm.gz"
JPEG = HERE / "jpeg-turbo.wasm.gz"
SCRIPTS = ("picture.js", "occlusion.js", "page.js")  # one script, in this order
LICENCES = tuple(HERE / f"{name}-LICENSE.txt" for name in ("onnxruntime", "jpeg-turbo"))
TAG = "resnet_space-page"  # by which a Space is known as a page of this app
NAMES = re.compile(r"export\{(?P<names>[^{}]*)\};?\s*//# sourceMappingURL=\S+\s*$")
MOST_BYTES = 400_000_000  # of a model: a browser's strings end at half a gigabyte
PART = 12_000_000  # bytes; a multiple of 3, as base64 turns three bytes into four characters
FIRST_CLASSES = 8


def page_files(run: Run, onnx: Path) -> dict[str, bytes]:
    """The folder of a run's page, which is also that of a static Space: path -> content.

    Args:
        run: with its metrics, for the accuracy.
        onnx: its file, as `export.write_onnx` makes it.

    Raises:
        UserError: if the model is too large for a page.
    """
    size = onnx.stat().st_size
    if size > MOST_BYTES:
        raise UserError(
            f"{run.name} has {size // 1_000_000} MB, but a page can have {MOST_BYTES // 1_000_000} MB: choose a format "
            "with 12-bit weights, or ONNX."
        )
    files = {
        "index.html": _page(told(run), onnx.read_bytes()).encode(),
        CARD: readme(run).encode(),
    } | {licence.name: licence.read_bytes() for licence in LICENCES}
    notice = run.existing(NOTICE)
    return files if notice is None else files | {NOTICE: notice.read_bytes()}


def readme(run: Run, licence: str = "") -> str:
    """With what the Hub reads of a static Space; the licence is by default that of the weights it started from."""
    title, licence = json.dumps(run.name), json.dumps(licence or licence_of(run))
    return (
        f"---\ntitle: {title}\nemoji: 🔬\ncolorFrom: blue\ncolorTo: green\nsdk: static\npinned: false\n"
        f"license: {licence}\nshort_description: An image classifier that runs in your browser\n"
        f"tags:\n  - {TAG}\n  - image-classification\n---\n\n# {run.name}\n\n"
        "Open `index.html`: it runs the model in the browser and connects to nothing. Any web server can host this "
        f"folder.\n\nMade with resnet_space. The page has ONNX Runtime Web {RUNTIME_VERSION} and libjpeg-turbo in it: "
        f"see {' and '.join(licence.name for licence in LICENCES)}.\n"
    )


def _page(about: dict[str, Any], model: bytes) -> str:
    style = (HERE / "page.css").read_text(encoding="utf-8")
    script = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    runtime = _runtime()
    # Only these three may run; a hash is of the text between the tags.
    scripts = " ".join(map(_hash, (runtime, script)))
    policy = (
        f"default-src 'none'; script-src {scripts} 'wasm-unsafe-eval'; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    files = {"runtime": WASM.read_bytes(), "jpeg": JPEG.read_bytes(), "model": gzip.compress(model, 6, mtime=0)}
    parts = [part for name, content in files.items() for part in _parts(name, content)]
    return Template((HERE / "template.html").read_text(encoding="utf-8")).substitute(
        policy=policy,
        title=html.escape(about["name"]),
        style=style,
        # In a script, "<" could begin a tag that ends it.
        told=json.dumps(about, ensure_ascii=False).replace("<", "\\u003c"),
        parts="\n".join(parts),
        runtime=runtime,
        script=script,
    )


def _parts(name: str, content: bytes) -> list[str]:
    """A file as scripts that are none, which the page reads one after the other."""
    pieces = (content[i : i + PART] for i in range(0, len(content), PART))
    return [
        f'<script type="text/plain" data-of="{name}">{base64.b64encode(piece).decode()}</script>' for piece in pieces
    ]


def _runtime() -> str:
    """ONNX Runtime Web as a script that puts what it exports into `ort`, as there is no file to import it from.

    Of a file's address it makes one relative to the page's origin, which Firefox refuses, as files have none there. It
    needs no address, as it is given its WebAssembly.
    """
    text = RUNTIME.read_text(encoding="utf-8").replace("import.meta.url", "'page:/'")
    found = NAMES.search(text)
    assert found is not None
    exported = dict(pair.split(" as ")[::-1] for pair in found["names"].split(","))
    values = ",".join(f"{name}:{exported[name]}" for name in ("InferenceSession", "Tensor", "env"))
    return f"{text[: found.start()]}globalThis.ort={{{values}}};"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def told(run: Run) -> dict[str, Any]:
    """What the page says of the run."""
    config = run.config.model
    calibrated = config.temperature != 1 or run.existing(FEATURE_STATISTICS) is not None
    return {
        "name": run.name,
        "what": f"Classifies pictures into {len(config.classes):,} classes: {_listed(config)}.",
        "unusual": UNUSUAL,
        "uncalibrated": "" if calibrated else UNCALIBRATED,
        "size": config.image_size,
        "stored": config.stored_size,
        "offset": round((config.stored_size - config.image_size) / 2),
        "mean": [round(255 * value) for value in config.mean],
        "about": _about(run),
    }


def _listed(config: ModelConfig) -> str:
    first, more = config.classes[:FIRST_CLASSES], len(config.classes) - FIRST_CLASSES
    return ", ".join(first) + (f" and {more:,} more" if more > 0 else "")


def _about(run: Run) -> dict[str, str]:
    config = run.config.model
    test = last_metric(run.metrics(), "test")
    facts = {
        "Network": config.entry.title,
        "Accuracy": f"{percent(test['accuracy'])} of the test images of {run.config.training.dataset}" if test else "",
        "Preparation": f"{preprocessing_words(config)}.",
        "Made with": f"resnet_space; runs with ONNX Runtime Web {RUNTIME_VERSION} (MIT licence), reads JPEG with "
        "libjpeg-turbo (BSD licence).",
    }
    return {name: value for name, value in facts.items() if value}
