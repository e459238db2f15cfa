"""Contrastive image-text pretraining: the model recognises the text of an image among the texts of all others."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.arguments import POSITIVE, Range, fits
from jaxvision.errors import UserError, unknown
from jaxvision.losses import image_text
from jaxvision.losses.pairs import unit
from jaxvision.models.two_towers import TOWERS, TwoTowers
from jaxvision.registry import part
from jaxvision.tasks.task import Batch, Joint, ModelFn, Task, Variables, check_classes, module_pattern

PARTS = {
    **{f"{tower}_projection": module_pattern(f"{tower}/projection") for tower in TOWERS},
    **{tower: module_pattern(tower) for tower in TOWERS},
    "logits": r"^params/logit_(?:scale|bias)$",
}


@part("task", "image_text")
def make_image_text(
    *,
    model: ModelFn,
    num_classes: int | None = None,
    multi_label: bool = False,
    over_batch: Callable[[Callable], Callable] | None = None,
    loss: str = "softmax",
    max_scale: float | str | None = "loss",
    locked: Sequence[str] = (),
    mask_equal: str | None = None,
    chunk: int | None = 1024,
    ring: bool = False,
) -> Task:
    """Makes the task that pulls images and their texts together and pushes other pairs apart.

    CLIP (Radford et al. 2021, sec. 2.3) and SigLIP (Zhai et al. 2023). The loss compares the pairs of the whole batch
    on all devices, and with `train.accumulate` it still does: the gradients are those of the whole batch, in the memory
    of a microbatch (train/accumulation.py, `cached`).

    Batches: `image` float [b, h, w, 3]; `tokens` int32 [b, n].

    Metrics: `contrastive_top1`, the share of images whose own text is more similar than every other text of the batch;
    `loss_over_chance`, the loss divided by the loss of guessing (ln b for the softmax), but not with `mask_equal`,
    which makes guessing easier; `scale`, and `bias` if the model has one.

    Outputs: `image_embedding` and `text_embedding`, float32 [b, d] of length 1, if the batch has images or tokens;
    `features` and `text_features`, the outputs of the towers before their projections; and the other outputs of the
    image tower. Tokens [b, t, n] of several texts for each image give `text_embedding` [b, t, d].

    Args:
      model: Function of the number of classes, here None, that builds a model of two towers. Scale and bias of the
        cosines are parameters of the model.
      num_classes: Number of classes of the data set; only `mask_equal="label"` uses its labels.
      multi_label: True if an image of the set has any number of labels.
      over_batch: Function that lays a loss over the devices of the run; None leaves the layout to XLA.
      loss: Name of the loss, "softmax" (CLIP) or "sigmoid" (SigLIP).
      max_scale: Limit of the scale of cosines, which is reduced to it after each step; None for no limit. "loss" is 100
        for "softmax" (CLIP: "to prevent scaling the logits by more than 100", sec. 2.5) and None for "sigmoid"
        (SigLIP).
      locked: Names of towers that are not trained, "image_tower" or "text_tower", with their projections. They are
        applied as in evaluation, with the running statistics of BatchNorm, and get neither gradients nor decay. LiT
        (Zhai et al. 2022, arXiv 2111.07991) locks an image tower that `config.init` fills. Give that tower no
        projection: it would keep its random weights.
      mask_equal: Name of a field of the batch, such as "tokens" or "label". Pairs for which this field is equal are not
        compared with each other. None compares all, as CLIP and SigLIP do.
      chunk: Number of images that a device compares with all texts at a time; None for all at once. It limits the
        memory of the loss and changes nothing else.
      ring: True to pass texts around the devices instead of gathering them on each one; the loss is the same.

    Raises:
      UserError: If an option is out of range, or the model does not have two towers, or the bias that the loss needs.
    """
    limit: Any = max_scale if max_scale != "loss" else 100.0 if loss == "softmax" else None
    _check(loss, limit, locked, chunk)
    if mask_equal == "label":
        check_classes("image_text", num_classes, multi_label)
    network = model(None)
    if not isinstance(network, TwoTowers):
        raise UserError("the task 'image_text' needs a model of two towers: set model.name to 'two_towers'")
    if loss == "sigmoid" and network.bias is None:
        raise UserError("the loss 'sigmoid' needs a bias: set model.bias to its initial value, -10 or 'batch'")

    if limit is not None and not Range(high=limit).holds(network.scale):
        raise UserError(
            f"model.scale={network.scale:g} is above task.max_scale={limit:g}, which limits it: lower model.scale or "
            "raise task.max_scale"
        )

    def compare_rows(image, text, scale, bias, ids=None, axis_name=None):
        fn = image_text.LOSSES[loss]
        return fn(image, text, scale, bias, ids, chunk=chunk, ring=ring, axis_name=axis_name)

    compare_all = compare_rows if over_batch is None else over_batch(compare_rows)

    def init(rng, batch):
        _check_batch(batch)
        if mask_equal is not None:
            _field(batch, mask_equal)
        return network.init(rng, batch["image"], batch["tokens"], train=False)

    def embed(variables, batch, rng):
        embeddings, current = [], dict(variables)
        for tower, field in zip(TOWERS, ("image", "tokens")):
            frozen = tower in locked
            inputs = {"images" if field == "image" else field: batch[field]}
            out, updates = network.apply(
                current, **inputs, train=not frozen, rngs={"dropout": rng}, mutable=_collections(current)
            )
            current |= updates
            embedding = out[tower.replace("tower", "projection")]
            embeddings.append(jax.lax.stop_gradient(embedding) if frozen else embedding)
        return tuple(embeddings), {name: current[name] for name in _collections(current)}

    def compare(variables, embeddings, batch):
        params = variables["params"]
        scale, bias = jnp.exp(params["logit_scale"]), params.get("logit_bias", jnp.zeros(()))
        ids = () if mask_equal is None else (_field(batch, mask_equal),)
        value, correct = compare_all(*embeddings, scale, bias, *ids)
        mean = value.mean()
        metrics = {"contrastive_top1": correct.mean(), "scale": scale}
        if mask_equal is None:
            metrics["loss_over_chance"] = mean / image_text.chance_loss(loss, len(value))
        return mean, metrics | ({"bias": bias} if "logit_bias" in params else {})

    def limit_scale(done):
        params = done.variables["params"]
        return {"params": {**params, "logit_scale": jnp.minimum(params["logit_scale"], jnp.log(limit))}}

    return Task(
        init,
        Joint(embed, compare),
        lambda variables, batch: tower_outputs(network, variables, batch),
        after=None if limit is None else limit_scale,
        parts=PARTS,
        model=tuple(PARTS),
        frozen=tuple(name for tower in locked for name in (f"{tower}_projection", tower)),
        progress=("contrastive_top1",),
        least=2,
    )


def tower_outputs(network: TwoTowers, variables: Variables, batch: Batch) -> dict[str, Any]:
    """Computes the outputs of the task; see `make_image_text`.

    Args:
      network: Model of two towers.
      variables: Variables of the model.
      batch: Batch with `image` float [b, h, w, 3], `tokens` int32 [b, n] or [b, t, n], or both.
    """
    outputs: dict[str, Any] = {}
    out: Any  # Flax types what `apply` returns as it does the variables
    if "image" in batch:
        out = network.apply(variables, images=batch["image"], train=False)
        outputs |= {**out["image"], "features": out["image_features"], "image_embedding": unit(out["image_projection"])}
    if "tokens" in batch:
        tokens = batch["tokens"]
        out = network.apply(variables, tokens=tokens.reshape(-1, tokens.shape[-1]), train=False)
        texts = {"text_features": out["text_features"], "text_embedding": unit(out["text_projection"])}
        outputs |= {name: x.reshape(*tokens.shape[:-1], -1) for name, x in texts.items()}
    return outputs


def _collections(variables: Variables) -> list[str]:
    return [name for name in variables if name != "params"]


def _check_batch(batch: Batch) -> None:
    """Raises UserError if a batch does not have pairs of one image and one text."""
    if "tokens" not in batch:
        raise UserError(
            "the task 'image_text' needs tokens with the images: set data.fields to ('image', 'tokens'), "
            "and data.host to one that ends in tokenize(...)"
        )
    if batch["image"].ndim != 4 or batch["tokens"].ndim != 2:
        raise UserError(
            "the task 'image_text' needs one view and one text for each image, not arrays of shapes "
            f"{list(batch['image'].shape)} and {list(batch['tokens'].shape)}: take `views` out of augment, or add "
            "`pick_caption` to it"
        )


def _field(batch: Batch, name: str) -> jax.Array:
    if name not in batch:
        raise unknown("value of task.mask_equal", name, batch)
    return batch[name]


def _check(loss, max_scale, locked, chunk) -> None:
    if loss not in image_text.LOSSES:
        raise unknown("value of task.loss", loss, image_text.LOSSES)
    if not fits(max_scale, POSITIVE | None):
        raise UserError(f"task.max_scale must be above 0, None for no limit or 'loss', not {max_scale!r}")
    if isinstance(locked, str):
        raise UserError(f"task.locked must be a tuple of towers: write ({locked!r},)")
    for tower in locked:
        if tower not in TOWERS:
            raise unknown("value of task.locked", tower, TOWERS)
    if set(locked) == set(TOWERS):
        raise UserError("task.locked: with both towers locked nothing is left to train")
    if chunk is not None and (not isinstance(chunk, int) or chunk < 1):
        raise UserError(f"task.chunk must be a whole number of at least 1, or None, not {chunk!r}")
