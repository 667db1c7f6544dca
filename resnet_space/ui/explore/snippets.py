"""The lines of Python that make a view's numbers again, in the folder of the app."""

from pathlib import Path
from typing import NamedTuple

from resnet_space.ui.explore.images import Images
from resnet_space.ui.explore.networks import Network


class Python(NamedTuple):
    """How a view measures, where `model`, `batches` (of images and labels) and `images` are there already.

    Attributes:
        imports: names in `resnet_space.residuals`.
        measured: the expression that becomes `found`.
        printed: what is printed of it.
        more: another line that imports.
    """

    imports: str
    measured: str
    printed: str
    more: str = ""

    def lines(self, network: Network, images: Images) -> str:
        """The lines for one network. Pictures of one's own have the names under which they were sent."""
        more_imports, batches = _batches(images, labelled="batches" in self.measured)
        network_imports, loaded = network.python()
        used = sorted([*self.imports.split(", "), *([] if images.files else ["probe", "probe_batches"])])
        more_imports = [*more_imports, *([self.more] if self.more else [])]
        imports = sorted([*network_imports, *more_imports, f"from resnet_space.residuals import {', '.join(used)}"])
        torch = ["import torch"] if "torch." in self.measured + batches[0] else []
        found = [f"found = {self.measured}", f"print({self.printed})", ""]
        return "\n".join([*torch, *imports, "", *loaded, *batches, *found])


def _batches(images: Images, *, labelled: bool) -> tuple[list[str], list[str]]:
    """(imports, lines) that make `batches`, of images and labels, or `images` alone."""
    if images.files:
        names = [Path(file).name for file in images.files]
        imports = [
            "from resnet_space.data.batches import centre_crop, normalise",
            "from resnet_space.data.images import open_image, to_model_size",
            "from torchvision.transforms.functional import pil_to_tensor",
        ]
        stored = f"[pil_to_tensor(to_model_size(open_image(name), config.stored_size)) for name in {names!r}]"
        return imports, [
            f"pixels = torch.stack({stored}).permute(0, 2, 3, 1)",
            "images = [normalise(centre_crop(pixels, config.image_size), config)]",
        ]
    batches = f"probe_batches(probe({images.dataset!r}, {images.split!r}, {images.count}, config), config)"
    return [], [f"batches = {batches}"] if labelled else [f"images = [batch for batch, _ in {batches}]"]
