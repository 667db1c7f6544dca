"""The licence of a run's weights: that of the weights it started from, or what its owner chooses where that is allowed.

The first line of a run's notice has it by its SPDX name; every run that starts from another takes the notice over.
"""

import re

from resnet_space.common.errors import UserError
from resnet_space.common.hub_client import is_repo_id
from resnet_space.common.text import quoted
from resnet_space.models.registry import entries
from resnet_space.runs import NOTICE, Run

SPDX = "SPDX-License-Identifier:"
OWN = "mit"  # of weights that were trained here from none of others
UNKNOWN = "unknown"  # as the Hub names it
# Under these, a fine-tuned model may have another licence. Other weights' licences stay.
PERMISSIVE = (OWN, "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "unlicense")
CHOICES = (OWN, "apache-2.0", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "other")

_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]{0,59}")


def notice_text(licence: str, weights: str) -> str:
    """A notice; `weights` says what they are and where they are from."""
    return f"{SPDX} {licence}\n\nThe weights are {weights}\n"


def notice_of(run: Run) -> str:
    """The origin and licence of third-party weights in the run; empty if there are none."""
    try:
        return (run.path / NOTICE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def licence_of(run: Run) -> str:
    """The licence in the first line of the notice; "mit" without one."""
    first = notice_of(run).partition("\n")[0]
    return first.removeprefix(SPDX).strip().lower() if first.startswith(SPDX) else OWN


def stated_licence(found: object) -> str:
    """The licence that a repository's card names; "unknown" if it is no licence's name."""
    return found.lower() if isinstance(found, str) and _NAME.fullmatch(found.lower()) else UNKNOWN


def base_model(run: Run) -> str | None:
    """The Hub repository of the weights that it started from, over any number of runs between."""
    for start in _starts(run):
        source = start.source
        if source is not None:
            return source.repo_id if is_repo_id(source.repo_id) else None
    return None


def why_no_push(run: Run, chosen: str = "") -> str:
    """Why a run may not be pushed under a licence, in one sentence; empty if it may.

    Args:
        run: with the notice of the weights that it started from, if they are somebody's.
        chosen: the licence; empty is the run's own.
    """
    claimed, own = chosen or licence_of(run), licence_of(run)
    if chosen and chosen not in (*CHOICES, own):
        return f"The licence must be one of {', '.join(CHOICES)}, not {quoted(chosen)}."
    names = [run.name, *(start.name for start in _starts(run)), run.config.training.start]
    known = next((known for entry in entries().values() for known in entry.pretrained if known.name in names), None)
    cannot = f"{run.name} cannot be pushed under the licence {claimed} because"
    if known is not None and known.licence not in (*PERMISSIVE, claimed):
        return (
            f"{cannot} it comes from {known.name}, whose licence {known.licence} allows no commercial use: put {SPDX} "
            f"{known.licence} into the first line of its {NOTICE}."
        )
    if own not in (*PERMISSIVE, claimed):
        return f"{cannot} it comes from weights whose licence is {own}: choose that one."
    return ""


def _starts(run: Run) -> list[Run]:
    """The runs that it started from, the nearest first, as far as they are on this machine."""
    found: list[Run] = []
    while (start := run.config.training.start) is not None and start not in (known.name for known in found):
        try:
            run = Run.open(run.path.parent / start)
        except UserError:
            break
        found.append(run)
    return found
