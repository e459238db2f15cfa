"""A classifier of parts side by side, against the trunk called on each part by itself."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import models
from jaxvision.models.pieces import PiecesClassifier


def nin(num_classes=None):
    return models.build("nin", num_classes, blocks=3, width=0.05)


def test_without_layers_between_it_is_the_model_with_its_own_head(random_variables):
    images = jax.random.normal(jax.random.key(0), (3, 1, 8, 8, 3))
    whole = nin(5)
    variables = random_variables(whole.init, images[:, 0])
    logits = jax.jit(PiecesClassifier(nin(), 5).apply)(variables, images, jnp.zeros((3, 1, 1), jnp.int32))
    _, out = jax.jit(whole.apply)(variables, images[:, 0])
    np.testing.assert_allclose(logits[:, 0], out["logits"], rtol=1e-5, atol=1e-6)


def test_a_question_sees_its_parts_in_its_order(random_variables):
    trunk = jax.jit(nin().apply)
    module = PiecesClassifier(nin(), 4, part_dim=6, hidden=7)
    parts = jax.random.normal(jax.random.key(0), (2, 3, 8, 8, 3))
    questions = jnp.array([[[2, 0], [1, 1]], [[0, 1], [2, 2]]])
    variables = random_variables(module.init, parts, questions)
    logits = jax.jit(module.apply)(variables, parts, questions)
    params, stats = variables["params"], variables["batch_stats"]["projection"]

    def layer(name, x):
        kernel = params["projection"][f"{name}_dense"]["kernel"]
        norm, statistics = params["projection"][f"{name}_norm"], stats[f"{name}_norm"]
        x = (x @ kernel - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-5)
        return np.maximum(x * norm["scale"] + norm["bias"], 0)

    for b in range(2):
        features = layer("part", np.asarray(trunk(variables, parts[b])[0]))
        for q in range(2):
            first, second = questions[b, q]
            x = layer("hidden", np.concatenate([features[first], features[second]]))
            want = x @ params["head"]["kernel"] + params["head"]["bias"]
            np.testing.assert_allclose(logits[b, q], want, rtol=1e-4, atol=1e-5)
