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
    """Pairs of an output pixel and a kernel position that is not on padding, along one side of n pixels.

    `padding` is that on the left, by default half of the kernel; "SAME" is TensorFlow's.
    """
    outputs = -(-n // stride)
    if padding == "SAME":
        padding = max((outputs - 1) * stride + size - n, 0) // 2
    elif padding is None:
        padding = size // 2
    else:
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


def basic_stages(n, before, channels, projects=True, padding=None):
    """A block of two 3x3 convolutions a stage, all but the first stride; a 1x1 projects where the shape changes."""
    total = 0
    for stage, c in enumerate(channels):
        stride = 2 if stage else 1
        if projects and (before != c or stride == 2):
            total += conv(n, 1, before, c, stride)
        total += conv(n, 3, before, c, stride, padding)
        n //= stride
        total += conv(n, 3, c, c)
        before = c
    return total + before * K


def resnet_8():
    return conv(32, 3, 3, 64), basic_stages(32, 64, (64, 128, 256), projects=False)


def bit_8():
    return conv(32, 3, 3, 64), basic_stages(32, 64, (64, 128, 256))


def mlperf_resnet8():
    return conv(32, 3, 3, 16), basic_stages(32, 16, (16, 32, 64), padding="SAME")


def wide_resnet():
    return conv(32, 3, 3, 16), basic_stages(32, 16, (64, 128, 256))


def resnet_v2():
    """Bottlenecks 1x1, 3x3, 1x1 of four times the channels; the 3x3 strides."""
    rest, before, n = 0, 64, 32
    for stage, c in enumerate((64, 128)):
        stride = 2 if stage else 1
        rest += conv(n, 1, before, 4 * c, stride) + conv(n, 1, before, c) + conv(n, 3, c, c, stride)
        n //= stride
        rest += conv(n, 1, c, 4 * c)
        before = 4 * c
    return conv(32, 3, 3, 64), rest + before * K


def nin():
    n, rest, before = 32, 0, 192
    for size, channels in ((1, (160, 96)), (5, (192, 192, 192)), (3, (192, 192, 192))):
        for i, c in enumerate(channels):
            rest += conv(n, size if i == 0 else 1, before, c)
            before = c
        n = max(n // 2, 8)
    return conv(32, 5, 3, 192), rest + before * K


def lenet():
    rest = conv(14, 5, 6, 16, padding=0) + conv(5, 5, 16, 120, padding=0) + 120 * 84 + 84 * K
    return conv(32, 5, 3, 6, padding=0), rest


def clip_resnet():
    """Three convolutions as stem; an average pooling strides before the last 1x1 of a block and before its shortcut."""
    rest, n, before = conv(32, 3, 32, 32) + conv(32, 3, 32, 64), 16, 64
    for stage, c in enumerate((64, 128)):
        rest += conv(n, 1, before, c) + conv(n, 3, c, c)
        n //= 2 if stage else 1
        rest += conv(n, 1, c, 4 * c) + conv(n, 1, before, 4 * c)
        before = 4 * c
    tokens, d = 1 + n * n, before  # one query; keys and values of all
    return conv(64, 3, 3, 32, stride=2), rest + 2 * d * d + 2 * tokens * d * d + 2 * tokens * d + d * K


CASES = {
    "vit": ("vit", 32, dict(variant="S/8", depth=2), vit),
    "mixer": ("mixer", 32, dict(variant="S/4", depth=2, width=512, tokens_dim=256, channels_dim=2048), mixer),
    "convnext": ("convnext", 32, dict(blocks=(1, 1), channels=384, patch=2, gelu="tanh"), convnext),
    "resnet": ("resnet", 32, dict(variant="8", width=4.0), resnet_8),
    "bit": ("bit", 32, dict(variant="R8x1", width=4), bit_8),
    "wide_resnet": ("wide_resnet", 32, dict(variant="10-4"), wide_resnet),
    "resnet_v2": ("resnet_v2", 32, dict(variant="164", blocks=(1, 1), width=4.0), resnet_v2),
    "nin": ("nin", 32, dict(blocks=3), nin),
    "lenet": ("lenet", 32, {}, lenet),
    "mlperf_resnet8": ("mlperf_resnet8", 32, {}, mlperf_resnet8),
    "clip_resnet": ("clip_resnet", 64, dict(blocks=(1, 1), channels=64, features=512), clip_resnet),
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


def test_the_tower_of_texts_computes_nothing_twice():
    """Causal attention computes the scores of later tokens too."""
    n, d, depth = 32, 256, 2
    tower = models.build_text("text_transformer", width=d, depth=depth, num_heads=4, vocab_size=300, length=n)
    tokens = jax.ShapeDtypeStruct((B, n), "int32")
    variables = jax.eval_shape(tower.init, jax.random.key(0), tokens)
    forward = lambda variables, tokens: tower.apply(variables, tokens, train=True)[0].sum()
    counts = [
        jax.jit(f).lower(variables, tokens).compile().cost_analysis()["flops"] for f in (forward, jax.grad(forward))
    ]
    want = 2 * B * depth * transformer(n, d, 4 * d)
    assert counts[0] == pytest.approx(want, rel=0.05)
    assert counts[1] == pytest.approx(3 * want, rel=0.05)


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
