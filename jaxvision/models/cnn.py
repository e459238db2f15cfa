"""A convolutional network that a spec describes: `"conv(32)|norm|relu|pool|flatten|dense(128)|relu"`."""

import collections
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision import specs
from jaxvision.errors import UserError, shown
from jaxvision.models import cnn_layers
from jaxvision.models.cnn_layers import MAP, Context, Layer
from jaxvision.models.heads import HEAD_INITS, linear_head
from jaxvision.models.inits import KERNEL_INITS
from jaxvision.models.layers import global_mean
from jaxvision.models.options import one_of
from jaxvision.models.order import Groups
from jaxvision.registry import part

VARIANTS = {
    "lenet5": "grey|conv(6, 5)|sigmoid|pool(mean=True)|conv(16, 5, padding=0)|sigmoid|pool(mean=True)|flatten"
    "|dense(120)|sigmoid|dense(84)|sigmoid",
    "lenet_caffe": "grey|conv(20, 5)|relu|pool|conv(50, 5)|relu|pool|flatten|dense(500)|relu",
    "bn9": "grey|conv(32, 3, padding=0)|norm|relu|conv(64, 3, padding=0)|norm|relu|pool|dropout(0.25)|flatten"
    "|dense(128)|norm|relu|dropout(0.5)",
}


class Placed(NamedTuple):
    """A layer of a spec.

    Attributes:
      text: Call in the spec, "conv(32)".
      name: Name of its parameters, or None if it has none.
      layer: Layer.
    """

    text: str
    name: str | None
    layer: Layer


class Cnn(nn.Module):
    """Module of `cnn`, which documents and checks the options."""

    num_classes: int | None
    layers: str
    kernel_init: str = "he"
    head_init: str = "normal"
    head_bias: float = 0.0
    dtype: jnp.dtype = jnp.float32

    def layer_order(self) -> Groups:
        """Groups of parameter paths from the input on; see `order`."""
        groups: list[tuple[str, ...]] = []
        for placed in place(self.layers):
            if placed.name is None:
                continue
            if placed.layer.weighs or not groups:
                groups.append((placed.name,))
            else:  # a norm belongs to the kernel before it
                groups[-1] = (*groups[-1], placed.name)
        return tuple(groups)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, dict]:
        """Maps images [b, height, width, c] to features [b, d], and to logits [b, k] if the model has classes."""
        x = images.astype(self.dtype)
        kernel_init, outputs, stages, last = KERNEL_INITS[self.kernel_init], [], [], x
        for text, name, layer in place(self.layers):
            before = x.shape
            context = Context(name or "", train, self.dtype, kernel_init, self.make_rng)
            x = _applied(layer, x, context, text)
            if 0 in x.shape:
                raise UserError(f"{text} leaves nothing of a map of {before[1]}x{before[2]} pixels: use larger images")
            outputs.append(x)
            if x.ndim == 4:
                last = x
            if layer.ends_stage:
                stages.append(x)
        if not stages or stages[-1] is not last:
            stages.append(last)
        out: dict[str, Any] = {"layers": tuple(outputs), "stages": tuple(stages), "map": last}
        out["tokens"] = last.reshape(len(last), -1, last.shape[-1])
        features = global_mean(x) if x.ndim == 4 else x.astype(jnp.float32)
        if self.num_classes:
            out["logits"] = linear_head(self.num_classes, self.head_init, self.head_bias)(features)
        return features, out


def _applied(layer: Layer, x: jax.Array, context: Context, text: str) -> jax.Array:
    try:
        return layer.apply(x, context)
    except UserError as error:
        raise UserError(f"{text}: {error}") from None


def place(spec: str) -> tuple[Placed, ...]:
    """Reads a spec into layers with the names of their parameters.

    Args:
      spec: Layers joined by "|".

    Raises:
      UserError: An unknown layer, wrong arguments, a name that is used twice, or a layer that cannot take what the
        layers before it give.

    >>> [placed.name for placed in place("conv(8)|relu|conv(8, name='last')|norm")]
    ['conv1', None, 'last', 'norm1']
    """
    return tuple(_placed(spec))


def _placed(spec: str) -> Iterator[Placed]:
    calls = specs.parse(spec)
    layers: list[Any] = cnn_layers.LAYERS.build(calls)
    form, counts, names = MAP, collections.Counter[str](), {"head"}
    for call, layer in zip(calls, layers):
        if layer.takes not in (None, form):
            hint = "put flatten or global_pool before it" if form == MAP else "put it before flatten or global_pool"
            raise UserError(f"{call} takes {layer.takes}, and the layers before it give {form}: {hint}")
        form = layer.gives or form
        name = layer.name
        if layer.kind is not None:
            counts[layer.kind] += 1
            name = name or f"{layer.kind}{counts[layer.kind]}"
            if name in names or "/" in name or not name.strip():
                problem = "is taken" if name in names else "is no name"
                raise UserError(f"{call}: the name {shown(name)} {problem}: give every layer a name of its own")
            names.add(name)
        yield Placed(str(call), name, layer)


@part(
    "model",
    small={"layers": "conv(8)|norm|prelu|pool|conv(16)|relu|pool|flatten|dense(24)|norm|tanh"},
    variants=VARIANTS,
)
def cnn(
    *,
    num_classes: int | None,
    dtype: jnp.dtype = jnp.float32,
    variant: str | None = None,
    layers: str | None = None,
    kernel_init: str = "he",
    head_init: str = "normal",
    head_bias: float = 0.0,
) -> Cnn:
    """Convolutional network of the layers that a spec names, and a linear head.

    The layers are `conv(channels, size, stride, padding, groups, bias)`, `norm` (BatchNorm), `lrn`, `pool(size, stride,
    padding, mean)`, `fractional_pool(ratio)`, `global_pool`, `flatten`, `dense(units, dropconnect)`, `dropout(rate)`,
    `grey`, and every activation of models/activations.py: `relu`, `leaky_relu(0.1)`, `maxout(2)`, ...
    models/cnn_layers.py documents their arguments.

    Applied to float images [b, h, w, c] it returns float32 features [b, d], the output of the last layer (its mean over
    all places if that is a map), and `out`: "layers" (the output of every layer of the spec), "stages" (the map after
    each pooling, and the last map), "map" [b, h', w', c'] (the last map), "tokens" [b, h' * w', c'], and "logits"
    float32 [b, k]. In training with `norm` apply it with `mutable=["batch_stats"]`.

    Args:
      num_classes: Number k of classes, at least 1, or None for no head.
      dtype: Type of the computation, float32 or bfloat16; parameters and logits are float32.
      variant: Name of a spec, in place of `layers`: "lenet5" (LeCun et al. 1998, with sigmoids, for 28x28 pixels),
        "lenet_caffe" (20, 50 and 500 channels, as in Caffe) or "bn9" (nine layers with BatchNorm and
        dropout); all three for grey images.
      layers: Spec of the layers between the images and the head, such as "conv(32)|norm|relu|pool|conv(64)|relu".
      kernel_init: Initialiser of the kernels: "he", "xavier" or "lecun".
      head_init: Initialiser of the head, "normal" or "zeros".
      head_bias: Initial logit of every class.

    Raises:
      UserError: An unknown layer, variant or initialiser, layers that do not fit together, or not exactly one of
        `variant` and `layers`; and when it is applied, images that are too small.
    """
    if (variant is None) == (layers is None):
        raise UserError(
            "the model 'cnn' needs its layers: set model.layers='conv(32)|relu|pool', or model.variant to one of "
            f"{', '.join(VARIANTS)}, and not both"
        )
    spec = layers if layers is not None else VARIANTS[one_of("variant of cnn", str(variant), VARIANTS)]
    place(spec)
    return Cnn(
        num_classes=num_classes,
        layers=spec,
        kernel_init=one_of("kernel_init", kernel_init, KERNEL_INITS),
        head_init=one_of("head_init", head_init, HEAD_INITS),
        head_bias=head_bias,
        dtype=dtype,
    )
