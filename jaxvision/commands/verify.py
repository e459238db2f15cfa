"""`jaxvision verify`: is a run whole? It looks, and changes something only where it is asked to repair."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jaxvision import config as configs
from jaxvision import storage
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
RECORDS = {"run.json": workdirs.launches, "results.json": workdirs.results}  # what reads them, and so checks them


class Finding(NamedTuple):
    """What was found of one thing.

    Attributes:
      thing: its name in the workdir.
      state: GOOD, NOTE (normal, but worth a line), WARNING, DAMAGED or REPAIRED.
      words: finding, as a person reads it.
      repair: puts it in order and returns what was done; None where that needs a person.
    """

    thing: str
    state: str
    words: str
    repair: Callable[[], str] | None = None


def run_verify(workdir: str | Path, *, repair: bool = False) -> int:
    """Prints a line for each thing of a run, and whether it is as it was written.

    Args:
      workdir: folder of the run, which may be in a bucket. A training may go on in it, unless `repair` is asked for.
      repair: set damaged checkpoints aside, write config.json from the newest checkpoint, drop a last line of
        metrics.jsonl that was cut off, write digests of checkpoints that have none.

    Returns:
      The exit status: 0, 2 where something is damaged (and was not repaired), 3 where there are warnings only.

    Raises:
      UserError: there is no run, or a training goes on in a run that is to be repaired.
    """
    workdir = storage.path(workdir, "--workdir")
    with storage.reaching(workdir):
        if not (workdir / "checkpoints").exists() and not any(
            (workdir / n).exists() for n in ("config.json", *RECORDS)
        ):
            raise UserError(f"{workdir} holds no run: neither config.json nor checkpoints")
        if repair:
            with workdirs.writer(workdir):
                found = mended(workdir)
        else:
            found = list(findings(workdir))
    width = max(len(one.thing) for one in found)
    for one in found:
        mends = " (--repair mends it)" if one.repair and not repair else ""
        print(f"{one.state:8} {one.thing:{width}}  {one.words}{mends}")
    states = [one.state for one in found]
    counts = [f"{states.count(state)} {state}" for state in (DAMAGED, REPAIRED, WARNING) if state in states]
    print(f"{workdir}: {', '.join(counts) or 'everything is good'}")
    return EXIT_USER_ERROR if DAMAGED in states else EXIT_INCOMPLETE if WARNING in states else 0


def findings(workdir: Path) -> Iterator[Finding]:
    """What is found of each thing of a run; nothing is changed."""
    saved = Saved(workdir)
    good: list[int] = []
    for one in _checkpoints(saved):
        if one.state == GOOD or (one.repair and one.thing.endswith(digests.NAME)):
            good.append(int(one.thing.split("/")[1]))
        yield one
    yield from _config(workdir)
    yield from _files(workdir, max(good, default=None))
    yield from _metrics(workdir, saved, max(good, default=None))


def mended(workdir: Path) -> list[Finding]:
    """What is found, where it can be repaired after it was; only for the one writer of the workdir."""
    found = []
    for one in findings(workdir):  # a step that was set aside no more tells what the config was
        found.append(one if one.repair is None else Finding(one.thing, REPAIRED, f"{one.words}: {one.repair()}"))
    return found


def _checkpoints(saved: Saved) -> Iterator[Finding]:
    found = entries.listing(saved.folder)
    for step in sorted(found.finished + (() if storage.is_remote(saved.folder) else found.unfinished)):
        thing = f"checkpoints/{step}"
        try:
            words = saved.problem(step)
            why = saved.without_digests(step)
            size = sum(file.size for file in storage.files(saved.folder / str(step)).values())
        except (Gone, FileNotFoundError):
            yield Finding(thing, NOTE, "was deleted meanwhile, as a training does with all but the newest")
            continue
        if words is not None:
            set_aside = lambda step=step: f"it is now {entries.set_aside(saved.folder, step)}"
            yield Finding(thing, DAMAGED, words, set_aside)
        elif why:
            write = lambda step=step: _write_digests(saved, step)
            words = f"is missing ({why}): flipped bits of this step would go unnoticed"
            yield Finding(f"{thing}/{digests.NAME}", WARNING, words, write)
        else:
            yield Finding(thing, GOOD, f"{_size(size)}, as its digests say")
    if storage.is_remote(saved.folder):
        for step in found.unfinished:
            yield Finding(f"checkpoints/{step}", NOTE, "is being saved, or was when its training was killed")
    for name in found.temporary:
        yield Finding(f"checkpoints/{name}", NOTE, "of a save that goes on or was killed; the next training deletes it")
    for name in found.aside:
        yield Finding(f"checkpoints/{name}", NOTE, "a damaged checkpoint that was set aside; it may be deleted")
    for name in found.foreign:
        could = entries.strangers(entries.Listing(foreign=(name,)))
        yield Finding(f"checkpoints/{name}", WARNING if could else NOTE, could or "is no checkpoint: left alone")
    if not found.finished and not found.unfinished:
        yield Finding("checkpoints", NOTE, "there is none yet")


def _write_digests(saved: Saved, step: int) -> str:
    saved.variables(step)  # at least its variables can be read
    digests.complete(saved.folder / str(step), step)
    return "they were written, of the files as they are now"


def _config(workdir: Path) -> Iterator[Finding]:
    path, known = workdir / "config.json", Saved(workdir).config()
    mine = words = None
    if not path.is_file():
        words = "is missing"
    else:
        try:
            mine = workdirs.saved_config(workdir)
        except UserError as error:
            words = str(error).removeprefix(f"{path} ")
    if known is None:
        nothing = (
            "; no checkpoint has a copy of it" if words else "can be read; there is no checkpoint to compare it with"
        )
        yield Finding("config.json", DAMAGED if words else GOOD, (words or "") + nothing)
        return
    step, theirs = known[0], workdirs.config_of({"config": known[1]}, workdir)
    if mine is not None:
        changed = configs.differences(theirs, mine)
        if not changed:
            yield Finding("config.json", GOOD, f"that of checkpoint {step}")
            return
        if workdirs.was_resumed(workdir, mine, step):
            yield Finding("config.json", NOTE, f"of a --resume under another config since checkpoint {step}")
            return
        words = f"is not the one of checkpoint {step} (there -> here): {'; '.join(changed)}"
    yield Finding("config.json", DAMAGED, words, lambda: _write_config(path, theirs, step))


def _write_config(path: Path, config: Any, step: int) -> str:
    kept = ""
    if path.is_file():
        aside = next(p for i in range(1, 10**6) if not (p := path.with_name(f"damaged-config-{i}.json")).exists())
        storage.move(path, aside)
        kept = f"; what was there is now {aside.name}"
    workdirs.write_json(path, json.loads(configs.to_json(config)))
    return f"written as checkpoint {step} says{kept}"


def _files(workdir: Path, newest: int | None) -> Iterator[Finding]:
    for name, read in RECORDS.items():
        path = workdir / name
        if not path.exists():
            if name == "run.json":
                yield Finding(name, WARNING, "is missing: versions, devices and commit of the launches are not known")
            continue
        try:
            content = read(workdir)
        except UserError as error:
            words = str(error).removeprefix(f"{path} ")
            yield Finding(name, DAMAGED, f"{words}. The next `train` writes it again")
            continue
        if name == "run.json":
            bad = sum("goodput" in one and not is_record(one["goodput"]) for one in content)
            words = f"{len(content)} launches" + (f"; the account of time of {bad} of them is damaged" if bad else "")
            yield Finding(name, WARNING if bad else GOOD, words)
        elif content["steps"] != newest:
            words = f"the run finished at step {content['steps']}, the newest good checkpoint is {newest}"
            yield Finding(name, WARNING, words)
        else:
            yield Finding(name, GOOD, f"the run finished at step {newest}")


def _metrics(workdir: Path, saved: Saved, newest: int | None) -> Iterator[Finding]:
    path, known = workdir / "metrics.jsonl", {}
    if not path.exists():
        yield Finding(path.name, WARNING if newest else NOTE, "is missing")
        return
    read = parse(path)
    if newest is not None:
        known = json.loads((saved.folder / str(newest) / "meta" / "metadata").read_bytes())
    problems = metrics.problems(read, newest, metrics.schedule(workdir, known), metrics.ended(workdir))
    for severe, words in problems:
        yield Finding(path.name, DAMAGED if severe else WARNING, words)
    if read.cut_off:
        words = f"its last line was cut off: {shown(read.cut_off)}"
        yield Finding(path.name, WARNING, words, lambda: metrics.drop_last(path))
    if not problems and not read.cut_off:
        last = max((line["step"] for line in read.lines), default=0)
        yield Finding(path.name, GOOD, f"{len(read.lines):,} lines up to step {last:,}")
    if newest is not None and (beyond := [line["step"] for line in read.lines if line["step"] > newest]):
        words = f"{len(beyond)} lines are beyond checkpoint {newest}; a training that goes on from there drops them"
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
