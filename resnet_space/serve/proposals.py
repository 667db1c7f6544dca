"""Proposals for a visitor's data, from the available weights and this machine's speed."""

from collections.abc import Mapping
from typing import Any

from resnet_space.common.background import tell_once
from resnet_space.common.hardware import is_zero_gpu, nvidia_gpus
from resnet_space.config import ModelConfig
from resnet_space.data.summary import DatasetSummary
from resnet_space.hub.pretrained import PRETRAINED
from resnet_space.runs import BACKBONE, PHOTO_BACKBONE
from resnet_space.serve.context import NOT_MADE_HERE, AppContext
from resnet_space.training.proposal import Proposal, propose
from resnet_space.training.speeds import CPU, GPU, Speeds
from resnet_space.training.timing import measured

# The best first. Weights of the Hub count only where they are on the disk: nobody is to wait for a download.
AT_HAND = (PHOTO_BACKBONE, BACKBONE, *(known.name for known in PRETRAINED))
TIMED = (PHOTO_BACKBONE, BACKBONE)
NEWEST_RUNS = 20  # that tell how fast this machine is


def proposed(context: AppContext, summary: DatasetSummary, chosen: Mapping[str, Any] | None = None) -> Proposal:
    """Propose a training for some data; `chosen` values are kept, see `training.proposal.propose`.

    Raises:
        UserError: for an unknown start or strategy, or incompatible choices.
    """
    starts = weights_at_hand(context)
    start = (chosen or {}).get("start")
    if start is not None:
        starts = {start: context.start_model(start)} | starts
    return propose(summary, starts, speeds_of(context), chosen=chosen, most_epochs=context.limits.epochs)


def weights_at_hand(context: AppContext) -> dict[str, ModelConfig]:
    """The networks to start from without a download, by run name, the best first."""
    here = {run.name: run for run in context.library.runs() if run.name in AT_HAND and run.has_weights}
    return {name: here[name].config.model for name in AT_HAND if name in here}


def speeds_of(context: AppContext) -> Speeds:
    """The speeds measured on this machine, at the app's start and by later trainings."""
    known = context.speeds.known()
    speeds = known or Speeds(GPU if nvidia_gpus() or is_zero_gpu() else CPU)
    made_here = (run for run in context.library.runs() if run.name not in NOT_MADE_HERE)
    own = [run for run in made_here if run.source is None and not run.is_job]
    for run in own[:NEWEST_RUNS][::-1]:  # the newest last
        speeds = speeds.with_run(run.config, context.library.metrics(run))
    return speeds


def measure_speeds(context: AppContext) -> bool:
    """Measure this machine's speed, unless that was done recently. Returns whether nothing is left to do."""
    if context.speeds.are_fresh():
        return True
    if context.trainer.active() is not None:  # both would be slow
        return False
    networks = [run for run in context.library.runs() if run.name in TIMED and run.has_weights]
    if networks:
        try:
            context.speeds.remember(measured(sorted(networks, key=lambda run: TIMED.index(run.name))))
        except (OSError, RuntimeError) as error:  # once is enough: then no page says how long anything takes
            tell_once(f"This machine's speed could not be measured: {error}")
    return True
