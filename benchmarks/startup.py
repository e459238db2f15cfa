"""Time from a command to the first metrics of the quickstart, and to the refusal of a misspelt optimizer.

Run:  python benchmarks/startup.py --rounds=5

"cold" compiles every program, "warm" finds them in the cache on disk. The first metrics are those of step 1, so they
are written right after the first step. The set is rendered before the measurement. Cold and warm runs take turns.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = [sys.executable, "-m", "jaxvision", "train", "--config=configs/quickstart.py"]
ONE_STEP = ["--config.train.log_every=1 steps", "--stop_after=1"]
TINY = [f"--config.data.options.{name}=100" for name in ("train", "validation", "test")]
TINY += ["--config.data.examples=100", "--config.data.batch_size=8"]


def seconds_to_metrics(workdir: Path, caches: Path, words: list[str]) -> float:
    """Starts a run and returns the time until its first line of metrics is written.

    Args:
      workdir: Folder of the run.
      caches: Folder of the user's caches.
      words: Further words of the command line.
    """
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"XDG_CACHE_HOME": str(caches)}
    began, metrics = time.perf_counter(), workdir / "metrics.jsonl"
    run = subprocess.Popen(
        [*TRAIN, *ONE_STEP, f"--workdir={workdir}", *words], env=environment, stdout=subprocess.DEVNULL
    )
    while not (metrics.exists() and metrics.stat().st_size):
        if run.poll() not in (None, 0) and not metrics.exists():
            raise RuntimeError(f"the run ended with status {run.returncode}")
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    run.wait()
    return seconds


def seconds_to_refusal(folder: Path) -> float:
    """Returns the time until a command ends that is given a config with a misspelt optimizer.

    Args:
      folder: Folder for the config.
    """
    text = Path("configs/quickstart.py").read_text().replace('name="sgd"', 'name="sgdd"')
    (folder / "wrong.py").write_text(text)
    began = time.perf_counter()
    run = subprocess.run(
        [*TRAIN, f"--config={folder / 'wrong.py'}", f"--workdir={folder / 'none'}"], capture_output=True
    )
    if b"unknown optimizer 'sgdd'" not in run.stderr:
        raise RuntimeError(run.stderr.decode())
    return time.perf_counter() - began


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="a set of 100 images and one round, to try the script")
    args = parser.parse_args()
    words = TINY if args.tiny else []
    times: dict[str, list[float]] = {"cold": [], "warm": [], "refusal": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds_to_metrics(folder / "first", folder / "first-caches", words)  # renders the set
        for i in range(1 if args.tiny else args.rounds):
            times["cold"].append(seconds_to_metrics(folder / f"cold{i}", folder / f"caches{i}", words))
            times["warm"].append(seconds_to_metrics(folder / f"warm{i}", folder / f"caches{i}", words))
            times["refusal"].append(seconds_to_refusal(folder))
    print("| seconds to | least | median | greatest |\n|---|--:|--:|--:|")
    for kind, values in times.items():
        what = kind if kind == "refusal" else f"first metrics, {kind}"
        print(f"| {what} | {min(values):.1f} | {statistics.median(values):.1f} | {max(values):.1f} |")


if __name__ == "__main__":
    main()
