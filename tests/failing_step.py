"""A training in which the second process has a full disk: `python -m tests.failing_step RUN_DIR`, by torchrun."""

import errno
import os
import sys
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

from resnet_space.train import main
from resnet_space.training.state import Training


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


if __name__ == "__main__":
    with patch.object(Training, "step", full) if os.environ["RANK"] == "1" else nullcontext():
        sys.exit(main())
