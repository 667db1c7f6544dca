"""Train a run: `python -m resnet_space.train RUN_DIR [--resume | --like RUN | --hub REPO]`, also by torchrun."""

import argparse
import sys
from pathlib import Path

from resnet_space.common.errors import UserError
from resnet_space.common.hardware import keep_threads_apart

if __name__ == "__main__":
    keep_threads_apart()  # which is read when torch is imported

from resnet_space.hub.card import write_card
from resnet_space.runs import Run
from resnet_space.serve.limits import Limits
from resnet_space.training import distributed
from resnet_space.training.host import host


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m resnet_space.train", description="Train a run.")
    parser.add_argument("run", metavar="RUN_DIR", help="folder of the run, with a config.json")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="continue an interrupted training")
    how.add_argument("--like", metavar="RUN", type=Path, help="create RUN_DIR and repeat the training of this run")
    how.add_argument(
        "--hub",
        metavar="REPO",
        help="create RUN_DIR from the job prepared in this repository, train it and push it there",
    )
    arguments = parser.parse_args()
    try:
        minutes = Limits.from_environment(public=False).minutes
        with distributed.joined():
            if distributed.count() > 1 and (arguments.like or arguments.hub):
                raise UserError("Several processes can only train an existing run: leave out --like and --hub.")
            if arguments.hub:
                from resnet_space.hub.published import train_published

                return train_published(Path(arguments.run), arguments.hub, minutes=minutes)
            run = Run.open(arguments.like).again(arguments.run) if arguments.like else Run.open(arguments.run)
            status = host(run, write_card, resume=arguments.resume, minutes=minutes)
            distributed.exit_if_joined(status)
            return status
    except UserError as error:
        if distributed.is_first():
            print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
