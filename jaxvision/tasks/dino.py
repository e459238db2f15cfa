"""DINO: the network predicts how its moving average distributes another view of an image over prototypes."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp

from jaxvision.arguments import COUNT, POSITIVE, SHARE, Range
from jaxvision.errors import UserError, unknown
from jaxvision.fields import Field
from jaxvision.layout import collection_pattern
from jaxvision.losses import representation
from jaxvision.losses import self_distillation as losses
from jaxvision.losses.sinkhorn import sinkhorn
from jaxvision.models import heads
from jaxvision.models.dino_head import DinoHead, DinoNetwork
from jaxvision.models.masked import plain_vit
from jaxvision.registry import part
from jaxvision.tasks import teacher as teachers
from jaxvision.tasks.block_masks import block_masks, most_masked
from jaxvision.tasks.task import (
    PAIRS,
    PARTS,
    After,
    Batch,
    Joint,
    ModelFn,
    Task,
    Variables,
    in_training,
    module_pattern,
    outputs_of,
)
from jaxvision.tasks.teacher import TEACHER
from jaxvision.tasks.views import as_examples, by_image, crops_of

TARGETS = "targets"  # the collection from which targets are made: the centre, and the step for the temperature
CENTERINGS = ("centre", "sinkhorn")
NETWORKS = ("student", "teacher")
HEADS = ("shared", "separate")


@part("task", "dino", small={"prototypes": 32, "hidden": 16, "bottleneck": 8})
def make_dino(
    *,
    model: ModelFn,
    total_steps: int,
    steps: Callable[[str | float], int],
    fields: Mapping[str, Field] = PAIRS,
    prototypes: COUNT = 65_536,
    layers: COUNT = 3,
    hidden: COUNT = 2048,
    bottleneck: COUNT = 256,
    fixed_norm: bool = True,
    momentum: SHARE = 0.996,
    schedule: teachers.Schedule = "cosine",
    temperature: POSITIVE = 0.1,
    teacher_temperature: POSITIVE = 0.04,
    warmup_temperature: POSITIVE = 0.04,
    temperature_warmup: str | float = 0,
    centering: Literal["centre", "sinkhorn"] = "centre",
    centre_momentum: SHARE = 0.9,
    koleo: Annotated[float, Range(0)] = 0.0,
    patches: Annotated[float, Range(0)] = 0.0,
    patch_head: Literal["shared", "separate"] = "shared",
    masked: SHARE = 0.5,
    mask_share: tuple[SHARE, SHARE] = (0.1, 0.5),
    network: Literal["student", "teacher"] = "student",
) -> Task:
    """Makes the task that predicts, from one view of an image, the teacher's distribution over prototypes for another.

    DINO (Caron et al. 2021, arXiv 2104.14294, sec. 3.1, eq. 1 to 4, alg. 1). The teacher has the same backbone and
    head. It starts as a copy, takes no gradients, and moves towards the trained network after every optimizer step. It
    sees the large crops only; the student sees all crops, in one pass for each size.

    DINOv2 (Oquab et al. 2023, arXiv 2304.07193, sec. 4) is the same with `patches`, `koleo` and `centering="sinkhorn"`.
    `patches` is the loss of iBOT (Zhou et al. 2022, arXiv 2111.07832, sec. 3): rectangles of the student's large crops
    are replaced by a token (`block_masks.py`), and it predicts the teacher's targets for these patches. KoLeo and
    Sinkhorn's algorithm compare the examples of the whole batch; DINOv2's code computes KoLeo on each GPU.

    The teacher has no dropout and no stochastic depth, unless the model has BatchNorm: then it is applied as in
    training, with the statistics of its batch. The paper keeps the last layer fixed in the first epoch:
    `config.optimizer.freeze = (("last_layer", "1 epoch"), (".*", False))`.

    Batches: `image` float [b, g, h, w, 3] with g at least 2, and optionally `local_image` float [b, l, h', w', 3], from
    `multi_crop` in the augmentation. A ViT needs positions for both sizes: posemb "sincos2d" or "rope", or "learned"
    with `base_grid`.

    Metrics: of the loss, `teacher_entropy`, the mean entropy of the targets, and `student_kl`, the rest of it, their
    divergence from the predictions (fig. 7). `mean_entropy` is the entropy of the mean target, log k if all prototypes
    are used alike, and `target_kl` the mean divergence of targets from their mean. If all targets are one prototype
    both entropies are 0, if all are uniform both are log k; in either collapse `target_kl` is 0. `embedding_std` is
    that of the bottleneck. Under `train.accumulate` they are means over microbatches.

    Outputs, for images [b, h, w, 3]: the outputs of the trained network (or of the teacher, see `network`), with
    "projection" [b, bottleneck].

    Args:
      model: Function of the number of classes, here None, that builds the backbone.
      total_steps: Number of steps of the run, which `schedule` needs.
      steps: Function that turns a duration into steps.
      fields: Fields of a batch; the images must have views.
      prototypes: Number k of prototypes, the dimension of the output.
      layers: Number of layers of the head before the prototypes.
      hidden: Number of units of all but the last of them.
      bottleneck: Dimension of the last of them.
      fixed_norm: True for prototypes of length 1; False to learn their lengths, which the paper does for ViT-S.
      momentum: Share of the teacher that stays in the first step, in [0, 1].
      schedule: Schedule of that share: "cosine" moves it to 1; "constant" leaves it.
      temperature: Temperature of the student.
      teacher_temperature: Temperature of the teacher after its warm-up; 0.07 for the paper's long runs.
      warmup_temperature: Temperature of the teacher in the first step of the warm-up.
      temperature_warmup: Duration of the linear warm-up of the teacher's temperature, such as "30 epochs".
      centering: Way to keep the targets from a single prototype: "centre", a moving average of the teacher's scores
        that is subtracted, or "sinkhorn", three iterations of Sinkhorn's algorithm on the targets of a batch.
      centre_momentum: Share of the centre that stays in a step, in [0, 1].
      koleo: Weight of the loss that spreads the features of the large crops (KoLeo), summed over
        these crops; 0.1 in DINOv2, 0 for none.
      patches: Weight of the loss of masked patches, 1 in iBOT and DINOv2, 0 for none. It needs a ViT.
      patch_head: "shared" for one head for images and patches, as in iBOT and DINOv2's short runs, or "separate", as in
        DINOv2's large ones.
      masked: Share of the large crops that get a mask.
      mask_share: Smallest and largest share of the patches that is masked in such a crop.
      network: Network that is evaluated, "student" or "teacher". The paper evaluates the teacher.

    Raises:
      UserError: An unknown option, or `patches` with a model that is not a ViT.
    """
    choices = {"centering": (centering, CENTERINGS), "patch_head": (patch_head, HEADS), "network": (network, NETWORKS)}
    for option, (value, known) in choices.items():
        if value not in known:
            raise unknown(f"value of task.{option}", value, known)
    if patches and not 0 <= mask_share[0] <= mask_share[1] <= 1:
        raise UserError(f"task.mask_share must be two shares, the smaller one first, not {mask_share}")
    backbone = (plain_vit if patches else heads.bare_backbone)("dino", model(None))

    def head() -> DinoHead:
        return DinoHead(prototypes, layers, hidden, bottleneck, fixed_norm, backbone.dtype)

    both = DinoNetwork(backbone, head(), head() if patches and patch_head == "separate" else None)  # for both networks
    warmup = steps(temperature_warmup)

    def score(variables: Variables, embedded: jax.Array, of: str = "image") -> Any:
        method = {"image": "score", "patches": "score_patches"}[of]
        return both.apply({"params": variables["params"]}, embedded, method=method)

    def hide(images: jax.Array, rng: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Masks [n, h * w] of images [n, ...], and the masked patches first [n, m]."""
        grid = (images.shape[1] // backbone.patch, images.shape[2] // backbone.patch)
        mask = block_masks(rng, len(images), grid, masked, mask_share)
        return mask, jnp.argsort(~mask, axis=1)[:, : max(1, most_masked(grid, mask_share))]

    def init(rng: jax.Array, batch: Batch) -> Variables:
        images = crops_of("dino", batch, fields)[0][:, 0]
        mask, picked = hide(images, rng) if patches else (None, None)
        variables = both.init(rng, images, mask, picked, train=False)
        centres = {"image": jnp.zeros(prototypes)} | ({"patches": jnp.zeros(prototypes)} if patches else {})
        return {**teachers.copied(variables), TARGETS: {"centre": centres, "step": jnp.zeros((), jnp.int32)}}

    def embed(variables: Variables, batch: Batch, rng: jax.Array) -> tuple:
        crops = crops_of("dino", batch, fields)
        b, g = crops[0].shape[:2]
        by_crop = lambda x: x.reshape(b, g, *x.shape[1:])
        images = tuple(map(as_examples, crops))
        mask, picked = hide(images[0], jax.random.fold_in(rng, 2)) if patches else (None, None)
        (features, out), updates = in_training(both, _student(variables), images, mask, picked, rng=rng)
        theirs = variables[TEACHER]
        (_, seen), moved = in_training(
            both,
            theirs,
            images[0],
            None,
            picked,
            rng=jax.random.fold_in(rng, 1),
            train="batch_stats" in theirs,
        )
        seen = jax.lax.stop_gradient(seen)
        embedded = {"student": by_image(out["projection"], crops), "teacher": by_crop(seen["projection"])}
        if koleo:
            embedded["features"] = by_crop(features[: b * g])
        if mask is not None and picked is not None:
            embedded["student_patches"] = by_crop(out["patches"])  # b g m e
            embedded["teacher_patches"] = by_crop(seen["patches"])
            # A float, since a gradient is taken of all embeddings (train/accumulation.py).
            embedded["masked"] = by_crop(jnp.take_along_axis(mask, picked, axis=1).astype(jnp.float32))  # b g m
        return embedded, {**updates, TEACHER: {**theirs, **moved}}

    def compare(variables: Variables, embedded: Mapping[str, jax.Array], batch: Batch) -> tuple:
        targets = targets_of(variables, "image", score(variables[TEACHER], embedded["teacher"]))
        value = losses.cross_view_entropy(score(variables, embedded["student"]), targets, temperature).mean()
        metrics = _spread(targets, value) | {"embedding_std": representation.embedding_std(embedded["student"][:, 0])}
        rows = {"image": embedded["teacher"].mean(1)}
        if koleo:
            metrics["koleo"] = jax.vmap(losses.koleo, in_axes=1)(embedded["features"]).sum()
            value += koleo * metrics["koleo"]
        if patches:
            counted, theirs = embedded["masked"] > 0, embedded["teacher_patches"]
            targets = targets_of(variables, "patches", score(variables[TEACHER], theirs, "patches"), counted)
            mine = score(variables, embedded["student_patches"], "patches")
            metrics["patch_loss"] = losses.masked_entropy(mine, targets, counted, temperature).mean()
            value += patches * metrics["patch_loss"]
            rows |= {"patches": (theirs * counted[..., None]).sum((1, 2)), "masked": counted.sum((1, 2))}
        return value, metrics, rows

    def targets_of(variables: Variables, of: str, scores: jax.Array, counted: jax.Array | None = None) -> jax.Array:
        """The teacher's targets from its scores [..., k]; those that are counted are all that there are."""
        state = variables[TARGETS]
        tau = losses.temperature_at(state["step"], warmup_temperature, teacher_temperature, warmup)
        if centering == "centre":
            return losses.centred(scores, state["centre"][of], tau)
        flat = scores.reshape(-1, prototypes)
        return sinkhorn(flat, tau, counted=None if counted is None else counted.reshape(-1)).reshape(scores.shape)

    def after(done: After) -> Variables:
        centres, rows, theirs = dict(done.variables[TARGETS]["centre"]), done.rows, done.variables[TEACHER]
        if centering == "centre":
            # The teacher is still that of the loss, and its mean score is the score of its mean bottleneck.
            means = {"image": rows["image"].mean(0)}
            if patches:
                means["patches"] = rows["patches"].sum(0) / jnp.maximum(rows["masked"].sum(), 1)
            for of, mean in means.items():
                centres[of] = losses.moved_centre(centres[of], score(theirs, mean, of), centre_momentum)
        stays = teachers.momentum_at(done.step, total_steps, momentum, schedule)
        return {TARGETS: {"centre": centres, "step": done.step + 1}, **teachers.followed(done, stays)}

    def outputs(variables: Variables, batch: Batch) -> dict[str, Any]:
        evaluated = variables[TEACHER] if network == "teacher" else _student(variables)
        return outputs_of(both, evaluated, batch["image"])

    joint = Joint(embed, compare)
    whole = centering == "sinkhorn" or koleo  # else each example has its own loss, and microbatches are averaged
    return Task(
        init,
        joint if whole else lambda *args: joint(*args),
        outputs,
        after=after,
        parts={
            **teachers.PART,
            TARGETS: collection_pattern(TARGETS),
            **{name: module_pattern(name) for name in ("patch_projection", "projection", "mask_token")},
            **PARTS,
        },
        progress=("teacher_entropy", "student_kl"),
        least=2 if whole else 1,
    )


def _student(variables: Variables) -> Variables:
    return {name: collection for name, collection in variables.items() if name not in (TEACHER, TARGETS)}


def _spread(targets: jax.Array, loss: jax.Array) -> dict[str, jax.Array]:
    """Measures of a collapse: of targets [b, g, k] and the mean cross entropy with them."""
    inside, mean = losses.entropy(targets).mean(), losses.entropy(targets.mean((0, 1)))
    return {
        "teacher_entropy": inside,
        "student_kl": loss - inside,
        "mean_entropy": mean,
        "target_kl": mean - inside,
    }
