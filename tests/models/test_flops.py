"""FLOPs of architectures: XLA's count of the compiled program against formulas, so nothing is padded or computed twice.

XLA counts a multiply-add as two and, unlike the tables of papers, leaves out kernel positions on padding. The formulas
here do the same; element-wise work, which they leave out, is below 5 % at these widths. A gradient costs two products
of the size of the forward one, but the first layer needs none with respect to the pixels.
"""

import jax
import pytest

from jaxvision import models

B, K = 2, 16  # images, classes


def taps(n, size, stride=1, padding=None):
    """Pairs of an output pixel and a kernel position that is not on padding, along one side of n pixels."""
    padding = size // 2 if padding is None else padding
    outputs = (n + 2 * padding - size) // stride + 1
    return sum(0 <= o * stride + t - padding < n for o in range(outputs) for t in range(size))


def conv(n, size, c_in, c_out, stride=1, padding=None, groups=1):
    return taps(n, size, stride, padding) ** 2 * c_in // groups * c_out


def transformer(n, d, hidden):
    return 4 * n * d * d + 2 * n * n * d + 2 * n * d * hidden


def vit():
    n, d = 16, 384
    return n * (8 * 8 * 3) * d, 2 * transformer(n, d, 4 * d) + d * K


def mixer():
    n, d, tokens, channels = 64, 512, 256, 2048
    return n * (4 * 4 * 3) * d, 2 * (2 * d * n * tokens + 2 * n * d * channels) + d * K


def convnext():
    first, n = 384, 16
    stem = n * n * (2 * 2 * 3) * first
    block = lambda n, c: conv(n, 7, c, c, groups=c) + 2 * n * n * c * 4 * c
    down = (n // 2) ** 2 * (2 * 2 * first) * 2 * first
    return stem, block(n, first) + down + block(n // 2, 2 * first) + 2 * first * K


def resnet_8():
    """Stages of 16, 32 and 64 channels, here times 4, of one block each; a 1x1 convolution where the size changes."""
    stem = conv(32, 3, 3, 64)
    rest, before, n = 0, 64, 32
    for c in (64, 128, 256):
        stride = 1 if c == before else 2
        rest += conv(n, 3, before, c, stride)
        if stride == 2:
            rest += conv(n, 1, before, c, stride)
        n //= stride
        rest += conv(n, 3, c, c)
        before = c
    return stem, rest + 256 * K


CASES = {
    "vit": ("vit", 32, dict(variant="S/8", depth=2), vit),
    "mixer": ("mixer", 32, dict(variant="S/4", depth=2, width=512, tokens_dim=256, channels_dim=2048), mixer),
    "convnext": ("convnext", 32, dict(blocks=(1, 1), channels=384, patch=2, gelu="tanh"), convnext),
    "resnet": ("resnet", 32, dict(variant="8", width=4.0), resnet_8),
}


def flops(name, size, options):
    """FLOPs of the forward pass and of the loss with its gradient, compiled."""
    model = models.build(name, K, **options)
    images = jax.ShapeDtypeStruct((B, size, size, 3), "float32")
    rest = dict(jax.eval_shape(model.init, jax.random.key(0), images))
    params = rest.pop("params")

    def forward(params, rest, images):
        return model.apply({"params": params, **rest}, images, train=False)[0]

    def loss(params, rest, images):
        variables = {"params": params, **rest}
        (logits, _), new = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return jax.nn.logsumexp(logits, -1).mean(), new

    programs = forward, jax.value_and_grad(loss, has_aux=True)
    return [jax.jit(f).lower(params, rest, images).compile().cost_analysis()["flops"] for f in programs]


@pytest.mark.parametrize("case", CASES)
def test_compiled_programs_compute_nothing_twice(case):
    name, size, options, formula = CASES[case]
    stem, rest = formula()
    forward, step = flops(name, size, options)
    assert forward == pytest.approx(2 * B * (stem + rest), rel=0.05)
    assert step == pytest.approx(2 * B * (2 * stem + 3 * rest), rel=0.05)


def test_remat_adds_one_forward_pass_of_the_blocks():
    """All but the last product, whose result the gradient does not need."""
    options = dict(variant="S/8", depth=1)
    _, plain = flops("vit", 32, options)
    model = models.build("vit", K, **options, remat="full")
    images = jax.ShapeDtypeStruct((B, 32, 32, 3), "float32")
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    loss = lambda variables, images: model.apply(variables, images, train=True)[0].sum()
    # Before optimisation: the CPU compiler sees that both passes are the same, and computes one.
    again = jax.jit(jax.grad(loss)).lower(variables, images).cost_analysis()["flops"]
    n, d = 16, 384
    assert (again - plain) / (2 * B) == pytest.approx(transformer(n, d, 4 * d) - n * 4 * d * d, rel=0.15)
