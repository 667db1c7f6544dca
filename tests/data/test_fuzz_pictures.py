import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzzing import MEMORY


def outcomes(kind: str, start: int, count: int) -> dict[str, int]:
    """Of so many seeds, tried in a process that must not die nor take more memory than is stated."""
    command = [sys.executable, "-m", "tests.fuzzing", kind, str(start), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    *seeds, last = done.stdout.splitlines()
    assert done.returncode == 0, f"It died of seed {[*seeds, last][-1]}: {done.stderr[-2_000:]}"
    result = json.loads(last)
    assert result["grown"] < MEMORY
    found: dict[str, int] = result["outcomes"]
    assert set(found) <= {"read", "refused"}
    return found


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("pictures", 120),
        ("archives", 24),
        pytest.param("pictures", 2_000, marks=pytest.mark.long),
        pytest.param("archives", 500, marks=pytest.mark.long),
    ],
)
def test_whatever_was_changed_in_a_file_it_is_read_or_refused(kind: str, count: int) -> None:
    found = outcomes(kind, 0, count)
    assert found["read"] > count / 20
    assert found["refused"] > count / 20
