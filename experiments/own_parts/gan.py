"""Example of your own task: a GAN, two players in one jitted step, each with its own loss and optimizer.

Run:       jaxvision train --config=configs/own_parts/gan.py --workdir=runs/gan
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.tasks.task import Batch, Player, Task, Variables, module_pattern


class Generator(nn.Module):
    """Latent vectors [b, d] -> images [b, 4 * 2**n, 4 * 2**n, 3] in [-1, 1], for n widths.

    Attributes:
      widths: Channels at 4, 8, ... pixels.
    """

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Returns images [b, h, w, 3] for z, latent vectors [b, d]."""
        x = nn.Dense(16 * self.widths[0])(z).reshape(-1, 4, 4, self.widths[0])
        for i, width in enumerate((*self.widths[1:], 3)):
            x = nn.leaky_relu(x, 0.2)
            b, h, w, c = x.shape
            x = jax.image.resize(x, (b, 2 * h, 2 * w, c), "nearest")
            x = nn.Conv(width, (3, 3), name=f"conv_{i}")(x)
        return jnp.tanh(x)


def make_gan(*, model: Callable[[int | None], nn.Module], latent: int = 32, widths: tuple[int, ...] = (64, 32)) -> Task:
    """A task that learns to generate images (Goodfellow et al. 2014, arXiv 1406.2661, sec. 3, alg. 1).

    Args:
      model: Function whose `model(1)` builds the discriminator.
      latent: Width of the latent vectors, which are drawn from a normal distribution.
      widths: Channels of the generator at 4, 8, ... pixels; two widths give images of 16 pixels.

    Batches: `image` float [b, h, w, 3] in [-1, 1]. Metrics: `generator_loss`, `discriminator_loss`, and the shares of
    real and of generated images that the discriminator classifies correctly.
    Outputs: the features of the discriminator, and `samples` float [b, h, w, 3], drawn with the key.
    """
    critic, generator = model(1), Generator(tuple(widths))

    def init(rng: jax.Array, batch: Batch) -> Variables:
        rngs = jax.random.split(rng)
        of_critic = critic.init(rngs[0], batch["image"], train=False)
        params = generator.init(rngs[1], jnp.zeros((1, latent)))["params"]
        variables = {name: {"discriminator": values} for name, values in of_critic.items()}
        return {**variables, "params": {**variables["params"], "generator": params}}

    def draw(variables: Variables, rng: jax.Array, count: int) -> jax.Array:
        return generator.apply({"params": variables["params"]["generator"]}, jax.random.normal(rng, (count, latent)))

    def judge(variables: Variables, images: jax.Array, train: bool = True) -> tuple:
        of_critic = {name: values["discriminator"] for name, values in variables.items()}
        collections = [name for name in of_critic if name != "params"]
        (features, out), updates = critic.apply(of_critic, images, train=train, mutable=collections)
        return features, out["logits"][:, 0], {name: {"discriminator": values} for name, values in updates.items()}

    def discriminator_loss(variables: Variables, batch: Batch, rng: jax.Array) -> tuple:
        real = batch["image"]
        images = jnp.concatenate([real, draw(variables, rng, len(real))])
        _, logits, updates = judge(variables, images)
        real, drawn = jnp.split(logits, 2)
        metrics = {"real_right": jnp.mean(real > 0), "drawn_right": jnp.mean(drawn < 0)}
        return jnp.mean(jax.nn.softplus(-real) + jax.nn.softplus(drawn)), (metrics, updates)

    def generator_loss(variables: Variables, batch: Batch, rng: jax.Array) -> tuple:
        _, logits, _ = judge(variables, draw(variables, rng, len(batch["image"])))
        return jnp.mean(jax.nn.softplus(-logits)), ({}, {})  # as in sec. 3, "rather than minimize log(1 - D(G(z)))"

    def outputs(variables: Variables, batch: Batch, rng: jax.Array) -> dict[str, Any]:
        features, logits, _ = judge(variables, batch["image"], train=False)
        return {"features": features, "real": logits, "samples": draw(variables, rng, len(batch["image"]))}

    return Task(
        init,
        None,
        outputs,
        players={
            "discriminator": Player("discriminator", discriminator_loss),
            "generator": Player("generator", generator_loss),
        },
        parts={"discriminator": module_pattern("discriminator"), "generator": module_pattern("generator")},
        model=("discriminator",),
        progress=("discriminator_loss", "generator_loss", "real_right", "drawn_right"),
    )
