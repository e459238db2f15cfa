"""jaxvision: pure-function vision experiments in JAX, in the order in which a run flows through them.

api.py          what `import jaxvision` gives: models, features, batches and training in a notebook
cli/            the command line: train, evaluate, predict, search, inspect, visualize, study, sweep, launch, ...
commands/       what each command does
config/         configs: loaded, changed key by key, checked, compared, saved
inputs.py       the data that a config names, or what stands for it
feeding.py      the training data, held in memory or a stream
experiment.py   from a config to the functions and the data that it names
parts.py        from its sections to mesh, task and optimizer
evaluations.py  from section evals to evaluators with their data
cautions.py     what a person should know before a run starts, that is no error
estimate.py     what a run will cost
sections.py     the keys of the sections data, train, init and evals
layout.py       the named parts of a task's variables: backbone, head, teacher, ...
transfer.py     a run that starts from weights
workdir.py      the folder of a run
launches.py     where the time of its launches went
durations.py    '90 epochs', '5 percent' -> steps
traced.py       numbers that differ between the runs of one program
arguments.py    values that a user gives, checked against annotations; literals.py: as they are written
calls.py        names that a user gives, checked against signatures
values.py       values of a config as plain Python
scripts.py      users' Python files: configs, sweeps, studies
found.py        parts by name: built-in ones, by walking folders; own_modules.py: those of a user, "my_models:small"
fields.py       what the fields of an example are: kind, shape, classes
specs.py        'flip_lr|mixup(0.2)' -> operations
paths.py        rules over parameter paths
storage.py      where files of a run may lie: a folder, or a bucket; writing them whole
line_files.py   files that grow by lines
locks.py        one writer a folder; lock_files.py: where the lock is kept; processes.py: whether its owner lives
outputs.py      files of fixed names in a folder of the user's
reading.py      users' files: whatever a library raises becomes one error that names the file and the place
unpacking.py    how much may come out of a file, told before room is made for it
progress.py     how far something is that takes long: a bar or lines on stderr
signals.py      SIGTERM and SIGINT, heard from the first line of a command on; __main__.py: the console script
errors.py       what a user can mend, worded with the choices; exits.py: exit statuses
data/           sources, subsets, host operations, tokenizers, loader
augment/        augmentation on the device
models/         ViT, MLP-Mixer, ConvNeXt, ResNets, BiT, NIN; two towers of image and text; heads and probes
losses/         pure functions on arrays
tasks/          what is learned: init, loss, outputs
optim/          schedules and optimizer chains
parallel/       mesh, sharding rules, processes
train/          state, step, loop, checkpoints, records
evals/          protocols that judge a model
sweep/          many runs that differ in some values: search, controller, report, populations
launch/         where they run: this machine, SLURM, Ray; a JobSet, a TPU slice
analysis/       statistics, scaling laws, figures, cost accounting, pages of pictures
"""

from typing import Any

__all__ = ["batches", "create_model", "create_training", "features", "load", "load_weights"]


def __getattr__(name: str) -> Any:
    """The names of api.py, which is imported once one of them is used: the command line starts without it."""
    if name not in __all__:
        raise AttributeError(f"module 'jaxvision' has no attribute {name!r}")
    from jaxvision import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
