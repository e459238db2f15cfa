"""jaxvision: vision experiments of pure functions in JAX. The files in the order in which a run uses them.

api.py          the functions of `import jaxvision`: models, features, batches and training in a notebook
run.py          jaxvision.train(config, data=...): a run from Python
trained.py      a trained model as a function of images; predictions.py: what it says
cli/            the command line: train, evaluate, predict, search, inspect, plot, visualize, study, sweep, ...
commands/       the work of each command
config/         configs: load, change keys, check, compare, save
inputs.py       the data that a config names, or a description that stands in for it
feeding.py      the training data, held in memory or streamed
experiment.py   from a config to the functions and the data that it names
components.py   from sections of a config to task, layout, optimizer and initial state
online.py       a linear probe and a k-NN that watch the features of a run, beside any task
evaluations.py  from the section evals to evaluators with their data
cautions.py     warnings about data and optimizer; checks.py: all checks and warnings before a run starts
estimate.py     the cost of a run, and where its time goes; step_costs.py: of a step; input_costs.py: of
                its data
recipes/        configs made from a folder of images, and written as files
hardware.py     memory, peak speed and networks of accelerators
sections.py     the keys of the sections data, train, init, mesh, online, evals and loggers
layout.py       the named parts of a task's variables: backbone, head, teacher, ...
transfer.py     starting a run from weights
workdir.py      the folder of a run
launches.py     the launches of a run: what each was started with, and how its time was spent
durations.py    '90 epochs', '5 percent' -> steps
traced.py       numbers that differ between the runs of one program
arguments.py    checks of users' values against annotations; literals.py: values from text
calls.py        checks of users' names against signatures
values.py       values of a config as plain Python
scripts.py      users' Python files: configs, sweeps, studies; shipped.py: where this project's own are
registry.py     parts by name; own_modules.py: users' own parts, "my_models:small"
fields.py       the fields of an example: kind, shape, classes
specs.py        'flip_lr|mixup(0.2)' -> operations
paths.py        rules over parameter paths
storage.py      files of a run in a folder or a bucket, written whole; path_names.py: what a path may be called
line_files.py   files that grow by lines
locks.py        one writer per folder; lock_files.py: the file of the lock; processes.py: whether its owner is alive
outputs.py      files of fixed names in a user's folder
reading.py      users' files: every exception of a library becomes one error that names the file and the place
unpacking.py    limits on the size of unpacked data, checked before memory is allocated
programs.py     compiled programs kept on disk; memory.py: freed memory kept by the process
progress.py     progress of slow work on stderr
signals.py      SIGTERM and SIGINT, handled from the start of a command; __main__.py: the console script
logs.py         warnings, each of them once
errors.py       errors that users can fix, with the choices; exits.py: exit statuses
version.py      the version of this package
docstrings.py   the parts of a docstring
data/           sources, subsets, host operations, tokenizers, loader
augment/        augmentation on the device
models/         networks for images, from linear to ViT, small nets from a spec; two towers; heads and probes
losses/         pure functions of arrays
tasks/          learning tasks: init, loss, outputs
optim/          schedules and optimizer chains
parallel/       mesh, sharding rules, processes
train/          state, step, loop, checkpoints, records
loggers/        W&B, MLflow, Comet, users' own: what they are told of a run
explain/        what a network sees: saliency, class activation maps, attention, attacks, units, maps of features
evals/          evaluators
sweep/          many runs that differ in some values: search, controller, report, populations
launch/         places to run: this machine, SLURM, Ray, a JobSet, a TPU slice
analysis/       statistics, scaling laws, figures, cost accounting, pages of pictures
"""

import importlib
from typing import Any

__all__ = [
    "Run",
    "batches",
    "create_model",
    "create_training",
    "evaluate_ensemble",
    "features",
    "load",
    "load_weights",
    "train",
]


def __getattr__(name: str) -> Any:
    """Returns a function of api.py, imported on first use, so that the command line starts without it."""
    if name == "__version__":
        from jaxvision.version import version

        return version()
    if name not in __all__:
        raise AttributeError(f"module 'jaxvision' has no attribute {name!r}")
    if name == "train":  # the package of the training loop, which can be called
        return importlib.import_module("jaxvision.train")
    from jaxvision import api, run

    return run.Run if name == "Run" else getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
