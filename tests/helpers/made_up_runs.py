"""The studies of experiments/, and what a run of each has as results: to make runs up without training."""

import json
import random
import re
from pathlib import Path

from jaxvision import config as configs
from jaxvision.commands import study
from jaxvision.commands.study_runs import FAILED
from jaxvision.evals import features

EXPERIMENTS = Path(study.__file__).parents[2] / "experiments"


def of_scaling(this, one, preset):
    keys = ["val/top1", "val/loss", "train/top1", *(f"fewshot/{n}shot_ridge1024" for n in (1, 5, 10, 25))]
    return [key for key in keys if key.partition("/")[0] in one.config.evals]


def of_pairs(this, one, preset):
    p = study.sibling(this.__file__, "presets").PRESETS[preset]
    return [*p.reported, *(key for keys in p.criteria.values() for key in keys)]


def of_rotation(this, one, preset):
    by_stage = [f"probe/{features.protocol_name('probe_lbfgs', f'stages.{i}')}/top1" for i in range(4)]
    return ["val/top1"] if one.tags["protocol"] == "labels" else by_stage


def of_simclr(this, one, preset):
    if preset in this.labels.PRESETS and one.tags["arm"] != "pretrain":
        return ["val/top1"]
    return ["val/probe_lbfgs/top1", "val/probe_lbfgs_projection/top1"]


def of_pretraining(this, one, preset):
    return ["knn/knn20_t0.07/top1", "probe/probe_lbfgs/top1", "few/probe_lbfgs/top1"]


def of_neighbours(this, one, preset):
    return [f"{part}/knn{k}_{part[-2:]}/top1" for part in one.config.evals for k in this.KS]


# Study -> preset, (module, run, preset) -> names of its results, and names of what it records during training.
STUDIES = {
    "architecture_search": ("laptop", lambda this, one, preset: ["val/top1", "test/top1"], []),
    "cross_validation": ("laptop", of_neighbours, []),
    "data_scaling": ("laptop", of_scaling, ["val/top1"]),
    "degradation": ("laptop", lambda this, one, preset: ["val/top1"], ["top1"]),
    "image_text": ("laptop", of_pairs, ["seen/zeroshot_plain1/top1"]),
    "own_parts/width": ("laptop", lambda this, one, preset: ["val/mean_iou"], []),
    "pretraining": ("laptop", of_pretraining, ["embedding_std"]),
    "random_search": ("laptop", lambda this, one, preset: ["val/top1"], []),
    "rotation": ("laptop", of_rotation, ["rotation_top1"]),
    "simclr": ("laptop", of_simclr, ["contrastive_top1", "effective_rank"]),
    "transfer": ("fashion", lambda this, one, preset: ["test/top1"], []),
}


def finish(one, folder, results, recorded, draw):
    """Writes the workdir of a run as if it had ended with made-up results."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(configs.to_json(one.config))
    lines = [{"step": step, "loss": draw(), "data_wait": 0.1} | {k: draw() for k in recorded} for step in (5, 10)]
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in [*lines, {"step": 10, "x": None}])
    )
    record = {"steps": 10, "seconds": 1.0, "results": {key: draw() for key in results}}
    (folder / "results.json").write_text(json.dumps(record))


def finish_all(this, preset, out, keys, recorded):
    """Finishes all runs of a preset; of those that may fail, one fails."""
    draw, rows = random.Random(0).random, []
    planned = this.runs(preset, "DIR")
    for one in sorted(planned, key=lambda one: one.fill is not None):
        if one.fill:
            overrides = one.fill(rows, out)
            if overrides is None:
                continue
            one = study._filled(one, overrides)
        folder = study.workdir(out, one.name)
        if one.may_fail and not any("error" in row for row in rows):
            folder.mkdir(parents=True)
            (folder / FAILED).write_text('{"error": "the loss of step 3 is \\"nan\\", not finite"}')
        else:
            finish(one, folder, keys(this, one, preset), recorded, draw)
        rows.append(study.row_of(one, out))


def judged(criterion, report):
    """Returns how a report judges a criterion, "met" or "FAILED", from the line that also says what must hold."""
    verdict, *_ = re.findall(rf"^- `{re.escape(criterion)}`: .*\. \*\*(met|FAILED)\*\*", report, re.MULTILINE)
    return verdict


def paragraph(name, report):
    """Returns a paragraph of the beginning of a report: "Answer", "Expected" or "Criteria"."""
    [text] = re.findall(rf"^\*\*{name}\.\*\* (.+)$", report, re.MULTILINE)
    return text
