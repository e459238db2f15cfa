"""Injects faults into real runs and prints the outcome, a row for each promise of docs/reliability.md.

    python benchmarks/reliability.py                    all of tests/faults, which takes hours on two cores
    python benchmarks/reliability.py -k signals         some of it; arguments are passed to pytest
    python benchmarks/reliability.py --read report.xml  the table of an earlier run of pytest

A test reports its counts with `record_property`: promise, injections, lost, hung, wrong. A test that fails counts as
at least one wrong; skipped tests are listed.
"""

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

FAULTS = Path(__file__).parents[1] / "tests" / "faults"
COUNTS = ("injections", "lost", "hung", "wrong")


def table(report: Path) -> str:
    """Makes the Markdown table of a JUnit report, followed by the tests that failed or were skipped.

    Args:
      report: Path of the report.
    """
    rows: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    others = []
    for case in ElementTree.parse(report).iter("testcase"):
        properties = {node.get("name"): node.get("value") for node in case.iter("property")}
        failed = case.find("failure") is not None or case.find("error") is not None
        if case.find("skipped") is not None or failed:
            others.append(f"{'FAILED' if failed else 'skipped'}: {case.get('name')}")
        if "promise" not in properties and not failed:
            continue
        row = rows[properties.get("promise", case.get("name"))]
        counted = {name: int(properties.get(name, 0)) for name in COUNTS}
        if failed and not any(counted[name] for name in ("lost", "hung", "wrong")):
            counted["wrong"] = 1
        for name in COUNTS:
            row[name] += counted[name]
    lines = [f"| promise | {' | '.join(COUNTS)} |", "|---|" + "--:|" * len(COUNTS)]
    lines += [f"| {promise} | {' | '.join(f'{row[name]:,}' for name in COUNTS)} |" for promise, row in rows.items()]
    return "\n".join([*lines, "", *others]).rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description="Injects faults into real runs and counts the outcomes.")
    parser.add_argument("--read", type=Path, help="JUnit report of an earlier run of pytest")
    options, rest = parser.parse_known_args()
    if options.read:
        print(table(options.read))
        return
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        words = ["-m", "slow", FAULTS, "-o", "junit_family=xunit1", f"--junitxml={report}", *rest]
        status = subprocess.run([sys.executable, "-m", "pytest", *words]).returncode
        print(table(report))
    sys.exit(status)


if __name__ == "__main__":
    main()
