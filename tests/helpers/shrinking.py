"""Small copies of configs, which train in seconds on `shapes`."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxvision import own_modules, specs
from jaxvision.evals import EVALUATORS
from jaxvision.tasks import TASKS

SIZES = ("hidden", "predictor_hidden", "projection_hidden", "part_dim", "projection_dim", "prototypes", "bottleneck")
SIZES += ("decoder_width", "decoder_depth", "decoder_heads")


def shrink(config: ConfigDict, model: Mapping[str, Any], steps: int = 2, size: int = 32) -> ConfigDict:
    """A copy that takes `steps` steps in seconds: `shapes` as data, or a set of the config's own of 64 examples, small
    images, the given model sizes.

    Everything else (augmentation, task, optimizer, schedule, evaluators) stays, so that a smoke
    test runs what the config says. Texts are read as bytes, which needs no file.

    Args:
      model: keyword arguments that make the config's model small, and a teacher of the same name.
      steps: length of the run.
      size: side of the images; arguments of specs larger than this are cut down to it.
    """
    small = config.to_dict()
    sizes = dict(image_size=size, train=96, validation=24, test=8)  # all classes occur
    shapes = dict(name="shapes", options=sizes | dict(text="caption"))

    def smaller(spec: str) -> str:
        return "|".join(str(shrunk(call)) for call in specs.parse(spec)) or "none"

    def shrunk(call: specs.Call) -> specs.Call:
        if call.name == "tokenize":
            kept = {key: value for key, value in call.kwargs.items() if key in ("length", "caption", "captions")}
            return call._replace(args=("bytes", *call.args[1:]), kwargs=kept)
        if call.name == "class_captions":
            return call._replace(kwargs={})
        return call._replace(args=tuple(map(cut, call.args)))

    def cut(argument: Any) -> Any:
        if isinstance(argument, tuple):
            return tuple(map(cut, argument))
        if isinstance(argument, str):  # of `views`, a spec
            return smaller(argument) if "(" in argument else argument
        return size if isinstance(argument, int) and argument > size else argument

    def on_shapes(section: dict[str, Any], split: str) -> dict[str, Any]:
        drop = ("data", "data_dir", "options", "classes", "examples", "subset", "train_subset", "sets")
        kept = {key: value for key, value in section.items() if key not in drop}
        kept |= {key: smaller(kept[key]) for key in kept if key.endswith(("host", "augment")) and kept[key]}
        if kept.get("train_split"):
            kept["train_split"] = "train"
        protocol = EVALUATORS.small(kept["name"]) if kept["name"] in EVALUATORS else {}
        return kept | protocol | dict(split=split, batch_size=16)

    is_own = own_modules.is_own(small["data"]["name"])  # made for its task, and small by itself
    small["data"] = on_shapes(small["data"], "train") | (dict(options=dict(examples=64)) if is_own else shapes)
    if not is_own:
        small["data"].pop("image_size", None)  # it stands for data that are not there, and these are
    small["evals"] = {name: on_shapes(section, "validation") for name, section in small.get("evals", {}).items()}
    small["augment"] = smaller(small.get("augment", "none"))
    small["model"] |= model
    if "num_heads" in small["model"]:  # its width is that of the small model now
        small["model"]["num_heads"] = 2
    name = small["task"]["name"]
    of_task = TASKS.small(name) if name in TASKS else {}
    small["task"] |= {key: value for key, value in of_task.items() if key in SIZES}
    for key in SIZES:  # heads of 4096 would be on each simulated device
        if small["task"].get(key):
            small["task"][key] = min(small["task"][key], 64)
    if "queue_size" in small["task"]:
        small["task"]["queue_size"] = 64
    if "block" in small["task"]:  # of pixels that are masked together: several must fit in the image
        small["task"]["block"] = min(small["task"]["block"], size // 4)
    if "teacher" in small["task"]:
        small["task"]["teacher"] |= model
    small.pop("init", None)  # the weights of a large model do not fit
    small["train"]["total"] = f"{steps} steps"
    for key in ("warmup", "cooldown"):
        if key in small["optimizer"]:
            small["optimizer"][key] = "1 step"
    return ConfigDict(small)
