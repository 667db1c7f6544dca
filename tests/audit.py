"""Known vulnerabilities of all that is installed: `python -m tests.audit PIP_AUDIT`, with the path of that program.

It asks the vulnerability service of PyPI. Where that cannot be reached nothing is known, which is no success.
"""

import json
import subprocess
import sys
import sysconfig
from typing import Any

UNREACHABLE = "The vulnerability service of PyPI could not be reached, so nothing was audited."


def verdict(report: dict[str, Any]) -> tuple[list[str], bool]:
    """(what to say, whether all is well) of pip-audit's JSON."""
    packages = report["dependencies"]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if not packages or len(skipped) == len(packages):
        return [UNREACHABLE], False
    lines = [
        f"{package['name']} {package['version']}: {found['id']}, "
        f"fixed in {', '.join(found['fix_versions']) or 'no version yet'}"
        for package in packages
        for found in package.get("vulns", [])
    ]
    known = len(lines)
    if skipped:
        lines.append(f"Not on PyPI, so not audited: {', '.join(skipped)}.")
    lines.append(f"{len(packages) - len(skipped)} packages were audited, {known} vulnerabilities are known.")
    return lines, not known


def main() -> int:
    folder = sysconfig.get_path("purelib")
    command = [sys.argv[1], "--path", folder, "--format", "json", "--progress-spinner", "off"]
    answer = subprocess.run(command, capture_output=True, text=True)
    try:
        lines, well = verdict(json.loads(answer.stdout))
    except json.JSONDecodeError:  # it says its reasons as tracebacks
        lines, well = [UNREACHABLE], False
    print(*lines, sep="\n")
    return int(not well)


if __name__ == "__main__":
    sys.exit(main())
