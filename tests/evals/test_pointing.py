"""The pointing game."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxvision import evals
from jaxvision.data.sources import Info, Source
from jaxvision.data.sources.base import standard_fields
from jaxvision.errors import UserError
from jaxvision.evals import dataset, pointing
from jaxvision.fields import Field


class Spots(Source):
    """Black images with an object of four pixels, and one bright pixel, which lies beside it in every third image."""

    def __init__(self, n):
        mask = Field("segmentation", (8, 8, 1), "uint8", of="image")
        self.info = Info("spots", "validation", n, (), 2)
        self.info = self.info._replace(fields={**standard_fields(self.info), "instance_mask": mask})

    def __len__(self):
        return self.info.num_examples

    def __getitem__(self, i):
        image, mask = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 1), np.uint8)
        mask[2:4, 4:6], mask[6, 6] = 1, 2
        image[(6, 6) if i % 3 == 0 else (3, 5)] = 255
        return {"image": image, "label": i % 2, "instance_mask": mask if i else 0 * mask}


class Bright(NamedTuple):
    """A task whose logits are sums of cubes of the pixels, so that their gradients are largest where it is bright."""

    def outputs(self, variables, batch):
        total = ((batch["image"] / 255) ** 3).sum((1, 2, 3))
        return {"logits": variables["scale"] * jnp.stack([total, 2 * total], -1)}


def spots(mesh, n=11, fields=("image", "label", "instance_mask")):
    return dataset.EvalSet(Spots(n), host="decode", augment="", batch_size=4, mesh=mesh(1), fields=fields)


def test_the_share_of_hits_and_its_interval(mesh):
    found = pointing.make_pointing(task=Bright(), data=spots(mesh))({"scale": jnp.float32(1)})
    # Image 0 has no object; 3, 6 and 9 point at the other one.
    interval = stats.binomtest(7, 10).proportion_ci(0.95, "wilson")
    expected = dict(hits=0.7, hits_low=interval.low, hits_high=interval.high, chance=4 / 64)
    assert found == pytest.approx({"examples": 10, **{f"pointing_gradient/{name}": x for name, x in expected.items()}})
    assert tuple(found) == evals.metrics("pointing", {}, 2)
    assert (
        evals.metrics("pointing", {"of": "gradcam(layer='stages/1')"}, 2)[0] == "pointing_gradcam_layer_stages_1/hits"
    )
    other = pointing.make_pointing(task=Bright(), data=spots(mesh), value=2)({"scale": jnp.float32(1)})
    assert [*other.values()][::3] == pytest.approx([0.3, 1 / 64])


def test_where_a_map_points():
    inside = np.zeros((3, 8, 8), bool)
    inside[:, 2:4, 4:6] = True
    maps = np.zeros((3, 4, 4))
    maps[0, 1, 2] = maps[1, 2, 2] = 1  # places of 2x2 pixels; the third map points nowhere
    assert pointing.points_at(maps, inside).tolist() == [True, False, False]
    inside[0], inside[:, 2, 4] = False, True  # the first of the two middle pixels of a place, in both directions
    assert pointing.points_at(maps, inside).tolist() == [True, False, False]
    assert pointing.points_at(np.zeros((3, 1, 1)), np.ones((3, 8, 8), bool)).tolist() == [False] * 3


def test_what_is_refused(mesh):
    for options, message in (
        (dict(of="filters"), "makes no map for each image"),
        (dict(of="gradcan"), "did you mean 'gradcam'"),
        (dict(field="label"), "'label' has the shape"),
    ):
        with pytest.raises(UserError, match=message):
            pointing.make_pointing(task=Bright(), data=spots(mesh), **options)
    run = pointing.make_pointing(task=Bright(), data=spots(mesh), of="gradcam")
    with pytest.raises(UserError, match="cannot apply gradcam to this model, this model returns no map"):
        run({"scale": jnp.float32(1)})
    with pytest.raises(UserError, match="has a pixel of the value 7"):
        pointing.make_pointing(task=Bright(), data=spots(mesh), value=7)({"scale": jnp.float32(1)})
