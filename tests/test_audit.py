from typing import Any

from tests.audit import UNREACHABLE, verdict

CLEAN: dict[str, Any] = {"name": "clean", "version": "1.0", "vulns": []}
BAD: dict[str, Any] = {"name": "bad", "version": "0.1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["0.2"]}]}
SKIPPED: dict[str, Any] = {"name": "own", "skip_reason": "Dependency not found on PyPI"}


def test_a_known_vulnerability_is_told_with_the_version_that_fixes_it() -> None:
    lines, well = verdict({"dependencies": [CLEAN, BAD]})
    assert lines == ["bad 0.1: PYSEC-1, fixed in 0.2", "2 packages were audited, 1 vulnerabilities are known."]
    assert not well


def test_what_could_not_be_audited_is_named_and_where_that_is_everything_it_is_no_success() -> None:
    lines, well = verdict({"dependencies": [CLEAN, SKIPPED]})
    assert lines[0] == "Not on PyPI, so not audited: own."
    assert well
    assert verdict({"dependencies": [SKIPPED]}) == ([UNREACHABLE], False)
    assert verdict({"dependencies": []}) == ([UNREACHABLE], False)
