"""What the commands of this package have in common."""

import sys
from collections.abc import Callable
from functools import wraps

from resnet_space.common.errors import UserError


def in_one_sentence(main: Callable[[], int]) -> Callable[[], int]:
    """A command that prints a UserError and ends with the exit status 1."""

    @wraps(main)
    def command() -> int:
        try:
            return main()
        except UserError as error:
            print(error, file=sys.stderr)
            return 1

    return command
