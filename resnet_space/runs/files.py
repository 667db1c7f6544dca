"""The names of a run's files, defined only here.

checkpoints/<run>/
  config.json                     RunConfig: all that is needed to rebuild the model and to repeat the run
  model.safetensors               the weights of the best validation epoch
  metrics.jsonl                   one JSON object a line, appended while training
  test.safetensors                the predictions for every test image
  feature_statistics.safetensors  of training images, to tell what is out of distribution
  robustness.json                 what a stress test found; stays on this machine, the model card tells it
  README.md                       the model card, generated from the above
  NOTICE                          origin and licence of weights from elsewhere, also of those that it started from
  figures/*.png                   for the card
  source.json                     which commit of the Hub it came from, if it did; stays on this machine
  resume/                         what training needs to go on; stays on this machine
"""

import re
from dataclasses import dataclass
from pathlib import Path

from resnet_space.config import RunConfig

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
METRICS = "metrics.jsonl"
EVALUATION = "test.safetensors"
FEATURE_STATISTICS = "feature_statistics.safetensors"
ROBUSTNESS = "robustness.json"
FORMER_NAMES = {FEATURE_STATISTICS: "usual.safetensors"}  # of files of earlier versions
CARD = "README.md"
NOTICE = "NOTICE"
FIGURES = "figures"
FIGURE_PATTERN = re.compile(rf"{FIGURES}/[A-Za-z0-9][A-Za-z0-9._-]{{0,94}}\.png")
SOURCE = "source.json"
RESUME = "resume"
START_WEIGHTS = f"{RESUME}/start.safetensors"
STATE = f"{RESUME}/state.pt"
DECODED = f"{RESUME}/images"
MEMBERS = f"{RESUME}/members.npz"  # the pictures of each set at the start of the training
LOG = f"{RESUME}/trainer.log"
STOP = f"{RESUME}/stop"
DOING = f"{RESUME}/doing.json"  # the current activity of its trainer
LOCK = f"{RESUME}/lock"
TRAINER = f"{RESUME}/trainer"  # the id of the process that trains it
QUEUED = f"{RESUME}/queued"
OWNER = f"{RESUME}/owner"
GUESTS = f"{RESUME}/guests"  # other visitors who pulled the same model
JOB = f"{RESUME}/job.json"  # for a run that trains as a job

# The names allowed on the Hub, so that any run can be pushed.
NAME_PATTERN = re.compile(r"(?!.*(--|\.\.|\.git$))[A-Za-z0-9]([A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")

# Shipped with the app: the backbones to fine-tune from, for small images and for photographs, a model whose
# classes everybody knows, and three of one recipe to compare in the Explore tab.
PHOTO_BACKBONE = "efficientnet-lite0-imagenet"
BACKBONE = "resnet20-cbam-imagenet32"
SHOWPIECE = "resnet20-cbam-cifar10"
SHALLOW, DEEP, PLAIN = "resnet20-cifar10", "resnet56-cifar10", "plain56-cifar10"
# The weights that a shipped run comes from, where the run in between does not ship.
ORIGINS = {SHOWPIECE: BACKBONE}
SHIPPED = (BACKBONE, SHOWPIECE, SHALLOW, DEEP, PLAIN, PHOTO_BACKBONE)


def names_of(file: str) -> tuple[str, ...]:
    """The names of a run's file: the current one, and that of earlier versions."""
    return (file, FORMER_NAMES[file]) if file in FORMER_NAMES else (file,)


def present_name(file: str) -> str:
    """The current name of a file that may have a name of an earlier version."""
    return next((name for name, former in FORMER_NAMES.items() if former == file), file)


@dataclass(frozen=True)
class RunFolder:
    """Shared by all parts of `Run`."""

    path: Path
    config: RunConfig

    @property
    def name(self) -> str:
        return self.path.name

    def existing(self, file: str) -> Path | None:
        """The path of a file of the run, by its current or earlier name; None if it is missing."""
        return next((self.path / name for name in names_of(file) if (self.path / name).exists()), None)
