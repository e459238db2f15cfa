"""Adversarial examples: small changes of the pixels that change what a network says."""

import functools
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.arguments import Range
from jaxvision.errors import UserError, unknown
from jaxvision.explain.base import Explanation, Outputs, Row, Subject, Tile, class_of, in_batches, without_classes
from jaxvision.registry import part

EPSILON = 8 / 255


@functools.partial(jax.jit, static_argnums=(0, 6))
def attack_step(
    outputs: Outputs,
    variables: Any,
    images: jax.Array,
    current: jax.Array,
    targets: jax.Array,
    sizes: jax.Array,
    targeted: bool = False,
) -> jax.Array:
    """Takes a step of the sign of the loss's gradient, and goes back to the nearest allowed image.

    Allowed are images within epsilon of the given ones in every channel of every pixel, and within [0, 1].

    Source: Madry et al. 2018, arXiv 1706.06083, sec. 2.1; with one step of size epsilon, Goodfellow et al. 2015, arXiv
    1412.6572, sec. 4. The loss is the cross entropy; targeted: Kurakin et al. 2017, arXiv 1607.02533, sec. 2.3.

    Args:
      outputs: Pure function of variables and images that returns "logits" [b, k].
      variables: Variables of the model.
      images: Images without a change, float32 [b, h, w, 3] in [0, 1].
      current: Images from which the step starts, float32 [b, h, w, 3] in [0, 1].
      targets: Class of each image, int32 [b], whose loss is raised; with `targeted`, lowered.
      sizes: Size of the step and epsilon, float32 [2], in units of the pixel range [0, 1].
      targeted: True to make the network say the class.

    Returns:
      float32 [b, h, w, 3] in [0, 1]. The difference to `images`, as float32 computes it, is at most epsilon.
    """

    def loss(x: jax.Array) -> jax.Array:
        logits = outputs(variables, x)["logits"].astype(jnp.float32)
        at = jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
        return (jax.nn.logsumexp(logits, axis=1) - at).sum()

    size, epsilon = sizes
    direction = jnp.sign(jax.grad(loss)(current))
    moved = current + (-size if targeted else size) * direction
    # Adding epsilon rounds, so the largest allowed change is taken once more, from the difference that float32 has.
    moved = jnp.clip(moved, jnp.maximum(images - epsilon, 0), jnp.minimum(images + epsilon, 1))
    return jnp.where(jnp.abs(moved - images) > epsilon, jnp.nextafter(moved, images), moved)


def fgsm(
    outputs: Outputs,
    variables: Any,
    images: jax.Array,
    targets: jax.Array,
    epsilon: float = EPSILON,
    targeted: bool = False,
) -> jax.Array:
    """Computes adversarial images by one step, the fast gradient sign method.

    For a model that is linear in its pixels, and a loss that falls with its score, no change of this size raises the
    loss more: the score changes by epsilon times the L1 norm of its gradient.

    Source: Goodfellow, Shlens, Szegedy 2015, arXiv 1412.6572, sec. 4.

    Args:
      outputs: Pure function of variables and images that returns "logits" [b, k].
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      targets: Class of each image, int32 [b], to move away from; with `targeted`, to move to.
      epsilon: Largest change, in units of the pixel range [0, 1]; 8 / 255 is eight grey levels.
      targeted: True to make the network say the class.

    Returns:
      float32 [b, h, w, 3] in [0, 1], within epsilon of the images.
    """
    sizes = jnp.array([epsilon, epsilon], jnp.float32)
    return attack_step(outputs, variables, images, images, targets, sizes, targeted)


def pgd(
    outputs: Outputs,
    variables: Any,
    images: jax.Array,
    targets: jax.Array,
    epsilon: float = EPSILON,
    steps: int = 10,
    step_size: float | None = None,
    targeted: bool = False,
    rng: jax.Array | None = None,
) -> jax.Array:
    """Computes adversarial images by projected gradient descent: small steps, each back into the allowed box.

    Source: Madry et al. 2018, arXiv 1706.06083, sec. 2.1. Without a key it starts at the images, as in Kurakin et al.
    2017, arXiv 1607.02533, sec. 2.2 (the basic iterative method).

    Args:
      outputs: Pure function of variables and images that returns "logits" [b, k].
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      targets: Class of each image, int32 [b], to move away from; with `targeted`, to move to.
      epsilon: Largest change, in units of the pixel range [0, 1].
      steps: Number of steps.
      step_size: Size of a step, in the same units; None for 2.5 epsilon / steps, as in Madry's code.
      targeted: True to make the network say the class.
      rng: Key for a random start in the box; None to start at the images.

    Returns:
      float32 [b, h, w, 3] in [0, 1], within epsilon of the images.
    """
    size = 2.5 * epsilon / steps if step_size is None else step_size
    sizes = jnp.array([size, epsilon], jnp.float32)
    current = jnp.asarray(images)
    if rng is not None:
        start = current + jax.random.uniform(rng, current.shape, minval=-epsilon, maxval=epsilon)
        current = jnp.clip(start, 0, 1)
    for _ in range(steps):
        current = attack_step(outputs, variables, images, current, targets, sizes, targeted)
    return current


ATTACKS = ("fgsm", "pgd")


def attack(
    outputs: Outputs,
    variables: Any,
    images: jax.Array,
    targets: jax.Array,
    method: str = "pgd",
    epsilon: float = EPSILON,
    steps: int = 10,
    targeted: bool = False,
    rng: jax.Array | None = None,
) -> jax.Array:
    """Computes adversarial images by an attack of a name.

    Args:
      outputs: Pure function of variables and images that returns "logits" [b, k].
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      targets: Class of each image, int32 [b], to move away from; with `targeted`, to move to.
      method: Name of the attack, "fgsm" or "pgd".
      epsilon: Largest change, in units of the pixel range [0, 1].
      steps: Number of steps of "pgd".
      targeted: True to make the network say the class.
      rng: Key for the random start of "pgd"; None to start at the images.

    Returns:
      float32 [b, h, w, 3] in [0, 1], within epsilon of the images.

    Raises:
      UserError: There is no such attack.
    """
    if method not in ATTACKS:
        raise unknown("attack", method, ATTACKS)
    if method == "fgsm":
        return fgsm(outputs, variables, images, targets, epsilon, targeted)
    return pgd(outputs, variables, images, targets, epsilon, steps, None, targeted, rng)


def _check(subject: Subject, method: str = "pgd", to: str | int | None = None, **_: Any) -> str | None:
    if method not in ATTACKS:
        raise unknown("attack", method, ATTACKS)
    if reason := without_classes(subject):
        return reason
    _class_number(subject, to)
    return None


def _class_number(subject: Subject, to: str | int | None) -> int | None:
    """The number of the class that the network is to say."""
    if to is None:
        return None
    if to in subject.classes:
        return subject.classes.index(str(to))
    count = subject.shapes()["logits"].shape[1]
    if isinstance(to, int) and 0 <= to < count:
        return to
    choices = subject.classes or tuple(map(str, range(count)))
    raise UserError(f"attack(to=...): {unknown('class', to, choices)}")


@part(
    "explanation",
    "attack",
    small={"steps": 2},
    passes=lambda subject, method="pgd", steps=10, **_: 4 if method == "fgsm" else 1 + 3 * steps,
    refuses=_check,
)
def explain_attack(
    subject: Subject,
    *,
    method: str = "pgd",
    epsilon: Annotated[float, Range(0, 1)] = EPSILON,
    steps: Annotated[int, Range(1)] = 10,
    to: str | int | None = None,
) -> Explanation:
    """Adversarial examples: a change of the pixels, too small to see, that changes the answer (Goodfellow et al. 2015).

    Args:
      subject: Model and images.
      method: Name of the attack, "pgd", or "fgsm" for one step.
      epsilon: Largest change of a pixel, in units of the pixel range [0, 1].
      steps: Number of steps of "pgd".
      to: Name or number of the class that the network is to say; None for any but its own answer.
    """
    number = _class_number(subject, to)
    predict = jax.jit(subject.outputs)

    def run(images: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        before = jax.nn.softmax(predict(subject.variables, images)["logits"].astype(jnp.float32))
        chosen = before.argmax(-1) if number is None else jnp.full(len(images), number)
        changed = attack(subject.outputs, subject.variables, images, chosen, method, epsilon, steps, number is not None)
        after = jax.nn.softmax(predict(subject.variables, changed)["logits"].astype(jnp.float32))
        return changed, before, after

    changed, before, after = in_batches(subject, run)
    rows = []
    for i, image in enumerate(subject.images):
        difference = 0.5 + (changed[i] - image) / (2 * max(epsilon, 1e-12))
        rows.append(
            Row(
                class_of(subject, i),
                [
                    Tile(image, None, _answer(subject, before[i])),
                    Tile(difference.clip(0, 1), None, f"change, at most {epsilon * 255:.3g}/255"),
                    Tile(changed[i], None, _answer(subject, after[i])),
                ],
            )
        )
    if number is None:
        met = f"{(before.argmax(-1) != after.argmax(-1)).sum()} of {len(rows)} answers change"
    else:
        met = f"{(after.argmax(-1) == number).sum()} of {len(rows)} images are taken for {_name(subject, number)}"
    how = "one step (FGSM, Goodfellow et al. 2015)" if method == "fgsm" else f"{steps} steps (PGD, Madry et al. 2018)"
    text = (
        f"Each pixel is changed by at most {epsilon * 255:.3g} of 255 grey levels, in the direction of the sign of the "
        f"loss's gradient, by {how}. The middle picture is the change, grey where there is none. With it, {met}. Under "
        "the pictures: the answer of the network with its probability."
    )
    return Explanation("Adversarial examples", text, rows)


def _answer(subject: Subject, shares: np.ndarray) -> str:
    return f"{_name(subject, int(shares.argmax()))} {shares.max():.1%}"


def _name(subject: Subject, k: int) -> str:
    return subject.classes[k] if k < len(subject.classes) else str(k)
