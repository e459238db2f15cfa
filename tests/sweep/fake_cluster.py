"""A cluster on paper, whose jobs outlive the controller; and, as a script, a controller that is killed at every write.

    python fake_cluster.py FOLDER STRIDE

runs a sweep once for each STRIDE-th event in it: a controller that kills itself with SIGKILL at that event, and then
another one that goes on. Prints one JSON line for each; the last one is of a controller that came to its end.
"""

import json
import os
import signal
import sys
from pathlib import Path

import optuna.trial  # noqa: F401  before the forks, which would each import it
from optuna.storages import journal as journals

from jaxvision import workdir as workdirs
from jaxvision.launch.base import Status
from jaxvision.sweep import Sweep, grid
from jaxvision.sweep.controller import Controller

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    c = ConfigDict()
    c.seed = 0
    c.x = 0
    c.evals = dict(val=dict(name="classify", split="validation", every="1 step"))
    return c
"""


def command(config, values, workdir):
    return [str(workdir), json.dumps(values)]


def write(path, value):
    """Not `workdir.write_json`, so that the controller can be killed at that, and the cluster not."""
    path.write_text(json.dumps(value))


class FakeCluster:
    """A launcher: a job starts at its first poll, ends at its second, and does what `fate` says.

    Args:
      root: what the cluster remembers.
      fate: `(values, attempt) -> "done", "lost" or an exit status`.
      value: `values -> val/top1` of a job that is done.
      steps: at which a job writes val/top1 to its metrics, one a poll, before it ends.
      hold: values of x whose jobs do not end.
      results: `values -> further results` of a job that is done.
      lines: `values -> metrics` that a job writes when it starts.
    """

    def __init__(
        self,
        root,
        fate=lambda values, attempt: "done",
        value=lambda values: values["x"],
        steps=(),
        hold=(),
        results=lambda values: {},
        lines=lambda values: (),
    ):
        self.results, self.lines = results, lines
        self.root, self.fate, self.value, self.steps, self.hold = root, fate, value, steps, set(hold)
        root.mkdir(parents=True, exist_ok=True)

    def jobs(self):
        return {path.stem: json.loads(path.read_text()) for path in sorted(self.root.glob("job*.json"))}

    def submit(self, words, folder, name):
        before = [job for job in self.jobs().values() if job["folder"] == str(folder)]
        assert all(job["state"] == "gone" for job in before), f"a second process in {folder}"
        (folder / "exit.json").unlink(missing_ok=True)
        job = f"job{len(self.jobs()):03d}"
        record = dict(folder=str(folder), name=name, values=json.loads(words[1]), attempt=len(before) + 1)
        write(self.root / f"{job}.json", record | dict(state="waiting", told=0))
        return job

    def find(self, folder, name):
        jobs = self.jobs().items()
        return next((job for job, one in jobs if (one["folder"], one["name"]) == (str(folder), name)), None)

    def poll(self, jobs):
        return {job: self._advance(job, Path(folder)) for job, folder in jobs.items()}

    def cancel(self, job, folder):
        one = self.jobs()[job]
        if one["state"] != "gone":
            self._end(job, one, folder, 85)

    def _advance(self, job, folder):
        one = self.jobs()[job]
        if one["state"] == "waiting":
            write(folder / "job.json", {"job": job})
            if lines := self.lines(one["values"]):
                text = "".join(json.dumps(line) + "\n" for line in lines)
                (folder.parent / "metrics.jsonl").write_text(text)
            self._save(job, one, state="running")
        elif one["state"] == "running" and one["told"] < len(self.steps):
            with (folder.parent / "metrics.jsonl").open("a") as file:
                line = {"step": self.steps[one["told"]], "val/top1": self.value(one["values"])}
                file.write(json.dumps(line) + "\n")
            self._save(job, one, told=one["told"] + 1)
        elif one["state"] == "running" and one["values"]["x"] not in self.hold:
            fate = self.fate(one["values"], one["attempt"])
            if fate == "done":
                done = {"steps": 1, "seconds": 1.0, "results": {"val/top1": self.value(one["values"])}}
                done["results"] |= self.results(one["values"])
                write(folder.parent / "results.json", done)
            self._end(job, one, folder, {"done": 0, "lost": None}.get(fate, fate))
        if (folder / "exit.json").is_file():
            return Status("ended", json.loads((folder / "exit.json").read_text())["code"])
        state = self.jobs()[job]["state"]
        return Status("lost" if state == "gone" else state, None)

    def _end(self, job, one, folder, code):
        if code is not None:
            write(folder / "exit.json", {"code": code})
        self._save(job, one, state="gone")

    def _save(self, job, one, **changes):
        one.update(changes)
        write(self.root / f"{job}.json", one)


def fate(values, attempt):
    """Of the trials of `main`: fine, preempted twice, lost once, the user's fault."""
    if values["x"] == 1 and attempt < 3:
        return 85
    if values["x"] == 2 and attempt == 1:
        return "lost"
    return 2 if values["x"] == 3 else "done"


def main(folder, stride):
    (folder / "fake.py").write_text(CONFIG)
    sweep = Sweep(config=str(folder / "fake.py"), space={"x": grid(0, 1, 2, 3)}, search="grid", seeds=(0, 1))

    def controller(out, killed_at):
        count = 0

        def event(function):
            def wrapped(*args, **kwargs):
                nonlocal count
                for act in (lambda: None, lambda: function(*args, **kwargs)):
                    result = act()
                    count += 1
                    if count == killed_at:
                        os.kill(os.getpid(), signal.SIGKILL)
                return result

            return wrapped

        workdirs.write_json = event(workdirs.write_json)
        journals.JournalFileBackend.append_logs = event(journals.JournalFileBackend.append_logs)
        FakeCluster.submit = event(FakeCluster.submit)
        FakeCluster.poll = event(FakeCluster.poll)
        trials = Controller(
            sweep, out, FakeCluster(out / "cluster", fate), parallel=3, seconds=0, command=command
        ).run()
        state = {
            f"{trial.number}/{seed}": [trial.state, run.state, run.attempts]
            for trial in trials
            for seed, run in trial.runs.items()
        }
        jobs = [one["folder"] for one in FakeCluster(out / "cluster").jobs().values()]
        log = [json.loads(line) for line in (out / "journal.log").read_text().splitlines()]
        trial_ids = [line["trial_id"] for line in log if line["op_code"] == 6 and line["state"] != 0]
        (out / "found.json").write_text(json.dumps({"found": state, "jobs": len(jobs), "told": sorted(trial_ids)}))

    def forked(*args):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                controller(*args)
                code = 0
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    for killed_at in range(1, 10**4, stride):
        out = folder / f"out{killed_at}"
        code = forked(out, killed_at)
        if code == -signal.SIGKILL:
            assert forked(out, 0) == 0, f"killed at event {killed_at}"
        print(json.dumps({"killed": code == -signal.SIGKILL, **json.loads((out / "found.json").read_text())}))
        if code == 0:
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
