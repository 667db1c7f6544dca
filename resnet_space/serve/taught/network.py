"""The frozen network for visitors' pictures, loaded once for all visitors."""

import copy
import io
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from PIL.Image import Image

from resnet_space.common.errors import UserError
from resnet_space.common.hardware import use_any_core
from resnet_space.data.images import open_image, to_model_size
from resnet_space.runs import PHOTO_BACKBONE, Library, Run

if TYPE_CHECKING:
    from torch import Tensor

    from resnet_space.models import Backbone
    from resnet_space.training.extraction import Extracted, Extractor


class Network:
    """One per app. Its methods may be called from any thread.

    Args:
        library: of the runs; the network is one of them.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self._loading = threading.Lock()
        self._pictures, self._frames = threading.Lock(), threading.Lock()  # held while the one or the other computes
        self._loaded: tuple[Run, Extractor, Extractor] | None = None

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None

    def loaded(self) -> "tuple[Run, Backbone]":
        """The run and its model, whose weights must not be changed. Raises UserError if it is missing."""
        run, extractor, _ = self._extractors()
        return run, extractor.model

    def load_soon(self) -> None:
        """Load it in the background, before it is needed."""

        def load() -> None:
            with suppress(UserError):  # whoever needs it is told
                self._extractors()

        if not self.is_loaded:
            threading.Thread(target=load, name="the network for shown pictures", daemon=True).start()

    def _extractors(self) -> "tuple[Run, Extractor, Extractor]":
        with self._loading:
            if self._loaded is None:
                if PHOTO_BACKBONE not in self.library.names_now([PHOTO_BACKBONE]):
                    where = self.library.root.name
                    raise UserError(f"Teach by showing needs the run {PHOTO_BACKBONE}, which is not in {where}.")
                from resnet_space.training.extraction import Extractor  # brings torch
                from resnet_space.training.feature_store import FeatureStore

                run = self.library.open(PHOTO_BACKBONE)
                model = run.load_model()
                store = FeatureStore.beside(self.library.root)
                # A copy for single frames, which never wait for somebody's hundred pictures, and are not kept.
                frames = Extractor(copy.deepcopy(model), run.config.model, exports=False)
                self._loaded = run, Extractor(model, run.config.model, store, exports=False), frames
            return self._loaded

    def steps(self, pictures: Sequence[bytes]) -> "Iterator[tuple[int, Extracted | None]]":
        """Yields (number done, None), and finally the total with the features. Raises ImageError, UserError."""
        import torch

        run, extractor, _ = self._extractors()
        size = run.config.model.stored_size

        def decoded(content: bytes) -> "Tensor":
            return torch.from_numpy(np.array(to_model_size(open_image(io.BytesIO(content)), size)))

        # Pillow releases the interpreter's lock while it decodes.
        with ThreadPoolExecutor(os.cpu_count(), initializer=use_any_core) as pool:
            pixels = torch.stack(list(pool.map(decoded, pictures)))
        computing = extractor.steps(len(pixels), lambda rows: pixels[rows])
        while True:
            try:
                with self._pictures:
                    done = next(computing)
            except StopIteration as end:
                yield len(pixels), end.value
                return
            yield done, None

    def features(self, picture: Image) -> "Tensor":
        """Features [1, D] of one picture, which are not cached."""
        import torch

        run, _, frames = self._extractors()
        pixels = torch.from_numpy(np.array(to_model_size(picture, run.config.model.stored_size)))
        with self._frames:
            return frames(pixels[None]).features
