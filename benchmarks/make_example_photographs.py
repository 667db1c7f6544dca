"""Make the example photographs of Predict: `python benchmarks/make_example_photographs.py`.

They come from packages of PyPI that say who took each photograph, and under which licence: scikit-image 0.26.0 (the
docstrings of `skimage.data`) and scikit-learn, which the app needs anyway (`datasets/images/README.txt`). Each is
cropped to a square with its subject in the middle, resized to at most 320 pixels, and saved as JPEG without metadata
beside `credits.json`.
"""

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from PIL import Image

SCIKIT_IMAGE = "scikit-image==0.26.0"
MOST = 320  # pixels a side
FOLDER = Path(__file__).parent.parent / "resnet_space" / "datasets" / "photographs"


class Photograph(NamedTuple):
    """Where a photograph is from; `left`, `top` and `side` are the square in pixels that is kept of it."""

    file: str
    author: str
    licence: str
    source: str
    left: int
    top: int
    side: int


CC0, CC_BY, PUBLIC_DOMAIN = "CC0 1.0", "CC BY 2.0", "public domain"
TERMS = {
    CC0: "https://creativecommons.org/publicdomain/zero/1.0/",
    CC_BY: "https://creativecommons.org/licenses/by/2.0/",
    PUBLIC_DOMAIN: "",
}
PHOTOGRAPHS = {
    "tabby": Photograph(
        "skimage/chelsea.png", "Stéfan van der Walt", CC0, "scikit-image 0.26.0, skimage.data.chelsea()", 0, 0, 300
    ),
    "espresso": Photograph(
        "skimage/coffee.png",
        "Rachel Michetti, Pikolo Espresso Bar",
        CC0,
        "scikit-image 0.26.0, skimage.data.coffee()",
        100,
        0,
        400,
    ),
    "tripod": Photograph(
        "skimage/camera.png", "Lav Varshney", CC0, "scikit-image 0.26.0, skimage.data.camera()", 0, 0, 512
    ),
    "rocket": Photograph(
        "skimage/rocket.jpg",
        "SpaceX",
        PUBLIC_DOMAIN,
        "https://www.flickr.com/photos/spacexphotos/16511594820",
        208,
        0,
        362,
    ),
    "palace": Photograph(
        "sklearn/china.jpg",
        "danielbuechele",
        CC_BY,
        "https://www.flickr.com/photos/danielbuechele/6061409035",
        69,
        0,
        362,
    ),
}


def scikit_images() -> dict[str, bytes]:
    """The files of its `skimage/data`, by name."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, SCIKIT_IMAGE]
        subprocess.run(command, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as opened:
            names = [name for name in opened.namelist() if name.startswith("skimage/data/")]
            return {name.rpartition("/")[2]: opened.read(name) for name in names}


def main() -> None:
    bundled = scikit_images()
    FOLDER.mkdir(exist_ok=True)
    credits = {}
    for name, photograph in PHOTOGRAPHS.items():
        package, _, file = photograph.file.partition("/")
        content = bundled[file] if package == "skimage" else (files("sklearn.datasets.images") / file).read_bytes()
        left, top, side = photograph.left, photograph.top, photograph.side
        square = Image.open(io.BytesIO(content)).convert("RGB").crop((left, top, left + side, top + side))
        small = min(side, MOST)
        square.resize((small, small), Image.Resampling.LANCZOS).save(FOLDER / f"{name}.jpg", quality=88, optimize=True)
        credits[name] = {
            "author": photograph.author,
            "licence": photograph.licence,
            "terms": TERMS[photograph.licence],
            "source": photograph.source,
            "changes": f"cropped, {small} x {small} pixels",
        }
    (FOLDER / "credits.json").write_text(json.dumps(credits, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
