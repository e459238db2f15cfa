"""Trains the runs of this study as one program per repeat, which compiles once instead of 54 times.

Run:  python experiments/random_search/together.py OUT
      jaxvision study random_search --out=OUT    # reads the finished runs and writes the report
"""

import sys
from pathlib import Path

from jaxvision.commands import study
from jaxvision.sweep import population


def main(out: Path) -> None:
    """Fills the workdirs of all runs.

    Args:
      out: Folder of the study.
    """
    this = study.load_study("random_search")
    planned = this.runs(this.PRESETS[0], None)
    for repeat in this.REPEATS:
        mine = [run for run in planned if run.tags["repeat"] == repeat]
        members = [population.Member(run.config, study.workdir(out, run.name)) for run in mine]
        population.train(members, out / "programs" / str(repeat))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
