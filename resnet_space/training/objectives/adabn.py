"""Adaptive batch normalisation (Li et al. 2016, arXiv:1603.04779): nothing is learned from the target."""

from typing import TYPE_CHECKING

from resnet_space.common.errors import UserError
from resnet_space.config import RunConfig
from resnet_space.training.objectives.base import register_objective
from resnet_space.training.objectives.cross_entropy import CrossEntropy

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    from resnet_space.runs import Run


def batch_norms(model: "nn.Module") -> "list[_BatchNorm]":
    """The layers with running statistics."""
    from torch.nn.modules.batchnorm import _BatchNorm

    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


@register_objective
class AdaBN(CrossEntropy):
    """Cross-entropy on the source; after the last epoch, BatchNorm's running statistics become those of the target."""

    id = "adabn"
    label = "AdaBN"
    hint = "Learns the labels, then takes BatchNorm's statistics from the target: one pass over its images."
    needs_target = True

    @classmethod
    def check(cls, config: RunConfig) -> None:
        import torch

        with torch.device("meta"):
            model = config.model.build_unfilled()
        if not batch_norms(model):
            raise UserError(
                f"AdaBN replaces the statistics of batch normalisation, which {config.model.architecture} lacks: "
                "choose another objective or network."
            )

    def finish(self, run: "Run", device: "torch.device") -> bool:
        """One pass over the target's training images, whose batches of nearly equal size count the same."""
        import torch

        from resnet_space.data.batches import centre_crop, evaluation_batch, normalise

        data = self.target.images
        model = run.load_model().to(device)
        for layer in batch_norms(model):
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all batches
            layer.train()
        parts = -(-len(data) // evaluation_batch(self.config.model))
        with torch.no_grad():
            for rows in torch.arange(len(data)).chunk(parts):
                pixels = centre_crop(data.pixels(rows).to(device), self.config.model.image_size)
                model(normalise(pixels, self.config.model))
        run.save_weights(model.state_dict())
        return True
