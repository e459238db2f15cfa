"""Opens the training data of a run: held in memory if they fit, else as a stream."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision import inputs
from jaxvision.data import host_ops, loader, resident, sources
from jaxvision.data.bad import Bad, BadRecords
from jaxvision.data.reader import Reader
from jaxvision.errors import UserError
from jaxvision.sections import DataSection, TrainSection
from jaxvision.tasks.task import Batch
from jaxvision.train import feed as feeds

STEPS_PER_DISPATCH = 32  # default for a set in the memory of an accelerator
RESIDENT_BYTES = 2**31  # largest size of a set that is held in memory


def in_memory(source: sources.Source, data: DataSection, train: TrainSection) -> bool:
    """Returns whether the training set is held in memory; if not, it is streamed.

    Args:
      source: Training set.
      data: Section `data` of the config.
      train: Section `train` of the config.

    Raises:
      UserError: The config asks for several steps of a stream in one dispatch, or for a set in memory whose host
        operations draw new random numbers in every epoch.
    """
    if data.resident == "always" and host_ops.host_ops.is_random(data.host):
        raise UserError(
            f"data.resident is 'always', but data.host={data.host!r} draws random numbers, which would be the same "
            "in every epoch: crop on the device, in augment, or leave data.resident out"
        )
    held = data.resident == "always" or (
        data.resident == "auto" and resident.fits(source, data.host, RESIDENT_BYTES, data.fields)
    )
    if not held and train.steps_per_dispatch > 1:
        raise UserError(
            f"train.steps_per_dispatch is {train.steps_per_dispatch}, but this set is read as a stream, a "
            "step a dispatch: set data.resident to 'always', or leave train.steps_per_dispatch out"
        )
    return held


def feed(source: sources.Source, data: DataSection, train: TrainSection, seed: int, mesh: Mesh) -> feeds.Feed:
    """Opens the training data: held in memory if it fits, else streamed.

    Args:
      source: Training set.
      data, train: Sections of the config.
      seed: Seed of the order and of the draws of host operations.
      mesh: Mesh of the devices.

    Raises:
      UserError: The config does not fit the way in which the data are read; see `in_memory`.
    """
    reading = inputs.reading_options(data)

    def examples(step: int) -> tuple[np.ndarray, Callable[[int], str]]:
        rows = source.order(seed, step * data.batch_size, (step + 1) * data.batch_size)
        return rows, source.describe

    held = in_memory(source, data, train)
    bad = BadRecords(source, data.max_bad_fraction, warn=not held)  # reading into memory warns by itself
    if held:
        on_cpu = jax.default_backend() == "cpu"
        fed = feeds.from_arrays(
            resident.load_arrays(source, data.host, fields=data.fields, **reading),
            partial(source.order, seed),
            mesh,
            batch_size=data.batch_size,
            max_steps=train.steps_per_dispatch or (1 if on_cpu else STEPS_PER_DISPATCH),
            bad=bad,
        )
        return fed._replace(examples=examples)

    def batches(start: int, stop: int) -> Iterator[Batch]:
        return loader.train_batches(
            source,
            data.host,
            batch_size=data.batch_size,
            seed=seed,
            start=start,
            stop=stop,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            fields=data.fields,
            bad=bad,
            **reading,
        )

    return feeds.from_stream(batches, mesh, bad=bad)._replace(examples=examples)


def bad_example(source: sources.Source, data: DataSection, index: int) -> Bad | None:
    """Returns what is bad with an example of the training set, or None if it can be read now.

    Args:
      source: Training set.
      data: Section `data` of the config.
      index: Index of the example.
    """
    reader = Reader(source, data.host, data.fields, max_bad_fraction=1.0)
    return next(iter(reader.look(index, 0, 0)[1]), None)
