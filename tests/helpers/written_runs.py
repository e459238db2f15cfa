"""Workdirs of runs that were never trained."""

import json

from ml_collections import ConfigDict

from jaxvision import config as configs


def write_run(folder, seed=0, rate=0.1, top1=0.5, steps=60, finished=True, launches=1, **numbers):
    """A workdir as training leaves it, with a log line every step and three evaluations."""
    folder.mkdir(parents=True)
    config = ConfigDict(
        dict(
            seed=seed,
            data=dict(name="shapes", split="train", batch_size=16),
            model=dict(name="resnet"),
            task=dict(name="supervised"),
            optimizer=dict(name="sgd", learning_rate=rate, betas=(0.9, 0.99)),
            train=dict(total=f"{steps} steps"),
            evals=dict(val=dict(name="classify", split="validation")),
        )
    )
    (folder / "config.json").write_text(configs.to_json(config))
    lines = []
    for step in range(1, steps + 1):
        lines.append({"step": step, "loss": 3.0 / step, "top1": step / steps, "learning_rate": rate, **numbers})
        if step % 20 == 0:
            lines.append({"step": step, "val/top1": top1 * step / steps, "val/loss": 1.0, "val/examples": 24.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    goodput = {
        "end": "finished" if finished else "running",
        "step": steps,
        "wall": 10.0,
        "seconds": {"productive": 8.0},
    }
    launch = {"start_step": 0, "git": "abc", "devices": ["cpu:0 cpu"], "command": ["jaxvision", "train"]}
    many = [{**launch, "start_step": 20 * i, "goodput": goodput} for i in range(launches)]
    (folder / "run.json").write_text(json.dumps({"launches": many}))
    if finished:
        results = {"val/top1": top1, "val/loss": 1.0, "val/examples": 24.0}
        (folder / "results.json").write_text(json.dumps({"steps": steps, "seconds": 9.0, "results": results}))
    return folder
