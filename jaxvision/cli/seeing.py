"""Flags of the commands that show what happened in runs."""

from absl import flags

from jaxvision.cli.shared import Command, offer, start, step_flag, value_of


def _define_plot(values: flags.FlagValues, words: list[str]) -> None:
    values.set_gnu_getopt()  # flags may follow the runs
    text = "folder for the page (default for a single run: its subfolder plots)"
    flags.DEFINE_string("out", None, text, flag_values=values)
    text = "seed: runs that differ only in seeds are one curve, the mean with a band; none: each is a curve"
    flags.DEFINE_string("group", "seed", text, flag_values=values)
    text = "unit of the x-axis: steps, or examples for runs that differ in batch size"
    flags.DEFINE_string("x", "steps", text, flag_values=values)
    offer(values, "group", "seed", "none")
    offer(values, "x", "steps", "examples")
    text = "classify the split of an evaluation: confusion matrix, classes, worst and surest images of a single run"
    flags.DEFINE_bool("predictions", False, text, flag_values=values)
    text = "evaluation whose split is classified (default: the first with the evaluator classify)"
    flags.DEFINE_string("evaluation", None, text, flag_values=values)
    step_flag(values)


def _plot(values: flags.FlagValues, rest: list[str]) -> None:
    if values.predictions:  # reading the records of runs needs no devices
        start([])
    from jaxvision.commands import plot

    plot.run_plot(
        rest,
        values.out,
        axis=value_of(values, "x"),
        **{name: value_of(values, name) for name in ("group", "predictions", "step", "evaluation")},
    )


COMMANDS = {
    "plot": Command(
        "draw the curves of runs, and compare them on a page: workdirs, or the folder of a sweep or study",
        "jaxvision plot runs/a runs/b --out=runs/comparison",
        _define_plot,
        _plot,
        examples=(
            "jaxvision plot runs/quickstart --predictions",
            "jaxvision plot runs/sweep --out=runs/sweep/curves --group=none",
        ),
        groups={"Curves": "group x", "What a classifier gets wrong": "predictions evaluation step", "Output": "out"},
    ),
}
