"""`jaxvision verify`: checks whether a run is complete and undamaged; changes nothing without --repair."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jaxvision import config as configs
from jaxvision import path_names, storage
from jaxvision import workdir as workdirs
from jaxvision.commands import verify_metrics as metrics
from jaxvision.errors import UserError, shown
from jaxvision.exits import EXIT_INCOMPLETE, EXIT_USER_ERROR
from jaxvision.storage import Path
from jaxvision.train import digests, entries
from jaxvision.train.goodput import is_record
from jaxvision.train.metrics import parse
from jaxvision.train.saved import Gone, Saved

GOOD, NOTE, WARNING, DAMAGED, REPAIRED = "good", "note", "warning", "DAMAGED", "repaired"
RECORDS = ("run.json", "results.json")


class Finding(NamedTuple):
    """The result of the check of one thing in a workdir.

    Attributes:
      thing: Name of the thing in the workdir.
      state: GOOD, NOTE (normal, but worth a line), WARNING, DAMAGED or REPAIRED.
      words: Description for the user.
      repair: Function that repairs it and returns what it did; None if only a person can.
    """

    thing: str
    state: str
    words: str
    repair: Callable[[], str] | None = None


def run_verify(workdir: str | Path, *, repair: bool = False) -> int:
    """Prints a line for each thing of a run that says whether it is undamaged.

    Args:
      workdir: Folder of the run, which may be in a bucket. Training may be running in it, unless `repair` is True.
      repair: True to set damaged checkpoints aside, write config.json from the newest checkpoint, remove a last line of
        metrics.jsonl that was cut off, and write digests for checkpoints without them.

    Returns:
      The exit status: 0; 2 if something is damaged and was not repaired; 3 if there are only warnings.

    Raises:
      UserError: There is no run, or `repair` is True while training is running.
    """
    workdir = storage.path(workdir, "--workdir")
    with storage.reaching(workdir):
        if not (workdir / "checkpoints").exists() and not any(
            (workdir / n).exists() for n in ("config.json", *RECORDS)
        ):
            raise UserError(f"{workdir} holds no run (no config.json, no checkpoints): give the --workdir of a run")
        if repair:
            with workdirs.writer(workdir):
                checked = repaired(workdir)
        else:
            checked = list(findings(workdir))
    width = max(len(one.thing) for one in checked)
    for one in checked:
        hint = " (--repair repairs it)" if one.repair and not repair else ""
        print(f"{one.state:8} {one.thing:{width}}  {one.words}{hint}")
    states = [one.state for one in checked]
    counts = [f"{states.count(state)} {state}" for state in (DAMAGED, REPAIRED, WARNING) if state in states]
    print(f"{workdir}: {', '.join(counts) or 'everything is good'}")
    return EXIT_USER_ERROR if DAMAGED in states else EXIT_INCOMPLETE if WARNING in states else 0


def findings(workdir: Path) -> Iterator[Finding]:
    """Checks each thing of a run; changes nothing.

    Args:
      workdir: Folder of the run.

    Yields:
      A finding for each thing.
    """
    saved = Saved(workdir)
    good: list[int] = []
    for one in _checkpoints(saved):
        if one.state == GOOD or (one.repair and one.thing.endswith(digests.NAME)):
            good.append(int(one.thing.split("/")[1]))
        yield one
    yield from _config(workdir)
    yield from _files(workdir, max(good, default=None))
    yield from _metrics(workdir, saved, max(good, default=None))


def repaired(workdir: Path) -> list[Finding]:
    """Checks each thing of a run and repairs what can be repaired. Call it as the only writer of the workdir.

    Args:
      workdir: Folder of the run.

    Returns:
      The findings; those of repaired things say what was done.
    """
    checked = []
    for one in findings(workdir):  # repairs one by one: a step that was set aside no longer gives the config
        checked.append(one if one.repair is None else Finding(one.thing, REPAIRED, f"{one.words}: {one.repair()}"))
    return checked


def _checkpoints(saved: Saved) -> Iterator[Finding]:
    listing = entries.listing(saved.folder)
    for step in sorted(listing.finished + (() if path_names.is_remote(saved.folder) else listing.unfinished)):
        thing = f"checkpoints/{step}"
        try:
            words = saved.problem(step)
            why = saved.without_digests(step)
            size = sum(file.size for file in storage.files(saved.folder / str(step)).values())
        except (Gone, FileNotFoundError):
            yield Finding(thing, NOTE, "was deleted just now: training keeps only the newest checkpoints")
            continue
        if words is not None:
            set_aside = lambda step=step: f"it is now {entries.set_aside(saved.folder, step)}"
            yield Finding(thing, DAMAGED, words, set_aside)
        elif why:
            write = lambda step=step: _write_digests(saved, step)
            words = f"is missing ({why}): flipped bits in this step cannot be detected"
            yield Finding(f"{thing}/{digests.NAME}", WARNING, words, write)
        else:
            yield Finding(thing, GOOD, f"{_size(size)}, matches its digests")
    if path_names.is_remote(saved.folder):
        for step in listing.unfinished:
            yield Finding(f"checkpoints/{step}", NOTE, "is being saved, or its save was killed")
    for name in listing.temporary:
        words = "is part of a save that is running or was killed; the next training deletes it"
        yield Finding(f"checkpoints/{name}", NOTE, words)
    for name in listing.aside:
        yield Finding(f"checkpoints/{name}", NOTE, "is a damaged checkpoint that was set aside; you may delete it")
    for name in listing.foreign:
        could = entries.strangers(entries.Listing(foreign=(name,)))
        yield Finding(f"checkpoints/{name}", WARNING if could else NOTE, could or "is not a checkpoint: left alone")
    if not listing.finished and not listing.unfinished:
        yield Finding("checkpoints", NOTE, "there is none yet")


def _write_digests(saved: Saved, step: int) -> str:
    saved.variables(step)  # raises if the variables cannot be read
    digests.complete(saved.folder / str(step), step)
    return "written for the files as they are now"


def _config(workdir: Path) -> Iterator[Finding]:
    path, newest = workdir / "config.json", Saved(workdir).config()
    mine, words = None, ""
    if not path.is_file():
        words = "is missing"
    else:
        try:
            mine = workdirs.saved_config(workdir)
        except UserError as error:
            words = str(error).removeprefix(f"{path} ")
    if newest is None:
        nothing = "; no checkpoint has a copy" if words else "can be read; there is no checkpoint to compare it with"
        yield Finding("config.json", DAMAGED if words else GOOD, words + nothing)
        return
    step, theirs = newest[0], workdirs.config_of({"config": newest[1]}, workdir)
    if mine is not None:
        changed = configs.differences(theirs, mine)
        if not changed:
            yield Finding("config.json", GOOD, f"matches checkpoint {step}")
            return
        if workdirs.was_resumed(workdir, mine, step):
            yield Finding("config.json", NOTE, f"was replaced by --resume with another config after checkpoint {step}")
            return
        words = f"differs from that of checkpoint {step} (checkpoint -> file): {'; '.join(changed)}"
    yield Finding("config.json", DAMAGED, words, lambda: _write_config(path, theirs, step))


def _write_config(path: Path, config: Any, step: int) -> str:
    kept = ""
    if path.is_file():
        aside = next(p for i in range(1, 10**6) if not (p := path.with_name(f"damaged-config-{i}.json")).exists())
        storage.move(path, aside)
        kept = f"; the old file is now {aside.name}"
    workdirs.write_json(path, json.loads(configs.to_json(config)))
    return f"written from checkpoint {step}{kept}"


def _files(workdir: Path, newest: int | None) -> Iterator[Finding]:
    for name in RECORDS:
        path = workdir / name
        if not path.exists():
            if name == "run.json":
                yield Finding(name, WARNING, "is missing: versions, devices and commit of the launches are not known")
            continue
        try:
            yield _launches(workdir) if name == "run.json" else _results(workdir, newest)
        except UserError as error:
            words = str(error).removeprefix(f"{path} ")
            yield Finding(name, DAMAGED, f"{words}. The next `train` writes it again")


def _launches(workdir: Path) -> Finding:
    launches = workdirs.launches(workdir)
    bad = sum("goodput" in one and not is_record(one["goodput"]) for one in launches)
    words = f"{len(launches)} launches" + (f"; the times of {bad} of them are damaged" if bad else "")
    return Finding("run.json", WARNING if bad else GOOD, words)


def _results(workdir: Path, newest: int | None) -> Finding:
    steps = (workdirs.results(workdir) or {}).get("steps")
    if steps != newest:
        words = f"the run finished at step {steps}, but the newest good checkpoint is {newest}"
        return Finding("results.json", WARNING, words)
    return Finding("results.json", GOOD, f"the run finished at step {newest}")


def _metrics(workdir: Path, saved: Saved, newest: int | None) -> Iterator[Finding]:
    path, meta = workdir / "metrics.jsonl", {}
    if not path.exists():
        yield Finding(path.name, WARNING if newest else NOTE, "is missing")
        return
    read = parse(path)
    if newest is not None:
        meta = json.loads((saved.folder / str(newest) / "meta" / "metadata").read_bytes())
    problems = metrics.problems(read, newest, metrics.schedule(workdir, meta), metrics.ended(workdir))
    for severe, words in problems:
        yield Finding(path.name, DAMAGED if severe else WARNING, words)
    if read.cut_off:
        words = f"its last line was cut off: {shown(read.cut_off)}"
        yield Finding(path.name, WARNING, words, lambda: metrics.drop_last(path))
    if not problems and not read.cut_off:
        last = max((line["step"] for line in read.lines), default=0)
        yield Finding(path.name, GOOD, f"{len(read.lines):,} lines up to step {last:,}")
    if newest is not None and (beyond := [line["step"] for line in read.lines if line["step"] > newest]):
        words = f"{len(beyond)} lines are after checkpoint {newest}; training that resumes from it removes them"
        yield Finding(path.name, NOTE, words)


def _size(count: int) -> str:
    """A number of bytes in words.

    >>> _size(311), _size(88_000_000)
    ('311 B', '88.0 MB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
