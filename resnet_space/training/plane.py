"""Pictures on a plane by their features: t-SNE (van der Maaten & Hinton 2008) from principal components.

openTSNE (Poličar et al. 2024, doi:10.18637/jss.v109.i03) computes it, with forces interpolated on a grid (Linderman et
al. 2019, arXiv:1712.09005). It starts from the first two components, so that the map is the same each time and its
large structure has a meaning (Kobak & Berens 2019, doi:10.1038/s41467-019-13056-x).
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from resnet_space.common.files import replaced_atomically
from resnet_space.training.cross_validation import in_their_span

COMPONENTS = 50
PERPLEXITY = 30
EXAGGERATED, STEPS = 250, 500  # of the descent
EVERY = 10  # steps that are told of
PREPARED = 0.1  # of the time, for the neighbours
LEAST = 10  # pictures, below which the first two components are the map
METHOD = f"openTSNE, {COMPONENTS} components, perplexity {PERPLEXITY}, {EXAGGERATED} + {STEPS} steps, seed 0"
ENDING = ".plane.npy"
MOST_KEPT = 8  # on disk, 80 kB each for 10,000 pictures
SAMPLED = 1_000  # pictures, whose neighbours are counted

Floats = NDArray[np.float32]


def principal_components(features: Tensor) -> Floats:
    """The directions of features [n, D] on their first components, at most `COMPONENTS`: float32 [n, c]."""
    found: Floats = in_their_span(F.normalize(features.float(), dim=1))[0][:, :COMPONENTS].numpy()
    return found


def on_a_plane(
    components: Floats, folder: Path | None = None, tell: Callable[[int, int], None] = lambda *_: None
) -> Floats:
    """A position for each picture, float32 [n, 2]; pictures with similar features are near one another.

    Args:
        components: float32 [n, c], as `principal_components` gives them.
        folder: where positions are kept, by components and method; None: nowhere.
        tell: called with (steps done, all), now and then; what it raises ends the work.
    """
    digest = hashlib.blake2b(METHOD.encode() + components.tobytes(), digest_size=16).hexdigest()
    file = None if folder is None else folder / f"{digest}{ENDING}"
    if file is not None:
        with suppress(OSError, ValueError):
            known: Floats = np.load(file, allow_pickle=False)
            if known.shape == (len(components), 2):
                file.touch()
                return known
    found = _descended(components, tell)
    if file is not None:
        with suppress(OSError):
            with replaced_atomically(file) as beside, beside.open("wb") as opened:
                np.save(opened, found)
            kept = sorted(file.parent.glob(f"*{ENDING}"), key=lambda path: path.stat().st_mtime)
            for old in kept[:-MOST_KEPT]:
                old.unlink(missing_ok=True)
    return found


def _descended(components: Floats, tell: Callable[[int, int], None]) -> Floats:
    count = len(components)
    if count < LEAST or not components.any():
        flat = np.zeros((count, 2), np.float32)
        width = min(components.shape[1], 2)
        flat[:, :width] = components[:, :width]
        return flat
    from openTSNE import TSNE  # late: scikit-learn comes with it

    prepared, done = round(PREPARED * (EXAGGERATED + STEPS)), 0
    total = prepared + EXAGGERATED + STEPS
    tell(0, total)

    def step(*_: Any) -> bool:
        nonlocal done
        done += EVERY
        tell(prepared + done, total)
        return False

    method = TSNE(
        perplexity=min(PERPLEXITY, (count - 1) / 3),
        initialization="pca",
        early_exaggeration_iter=EXAGGERATED,
        n_iter=STEPS,
        neighbors="exact" if count < 1_000 else "approx",
        n_jobs=1,
        random_state=0,
        callbacks=step,
        callbacks_every_iters=EVERY,
    )
    return np.asarray(method.fit(components), dtype=np.float32)


def kept_neighbours(components: Floats, points: Floats, nearest: int) -> float:
    """Of a picture's `nearest` neighbours by components [n, c], how many are among as many on the plane [n, 2].

    It is the mean over at most `SAMPLED` pictures drawn at random.
    """
    count = len(points)
    nearest = min(nearest, count - 1)
    rows = torch.from_numpy(np.random.default_rng(0).permutation(count)[:SAMPLED])
    sets = []
    for space in (torch.from_numpy(components), torch.from_numpy(points)):
        distances = torch.cdist(space[rows].double(), space.double(), compute_mode="donot_use_mm_for_euclid_dist")
        distances[torch.arange(len(rows)), rows] = torch.inf
        near = distances.topk(nearest, dim=1, largest=False).indices
        sets.append(torch.zeros(len(rows), count, dtype=torch.bool).scatter_(1, near, value=True))
    return float((sets[0] & sets[1]).sum(1).double().mean())
