"""The networks of train_step.py: each as sections of a config of this project, and as a torch module."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

SGD = dict(name="sgd", learning_rate=0.1, momentum=0.9, weight_decay=1e-4)
ADAMW = dict(name="adamw", learning_rate=1e-3, weight_decay=0.1)
SUPERVISED = dict(name="supervised")
CLASSES = 1000
VOCABULARY, CONTEXT = 49_408, 77  # of CLIP's tokens


class Network(NamedTuple):
    """A network and its training, in both frameworks.

    Attributes:
      model: Section `model`.
      optimizer: Section `optimizer`; torch gets the same numbers.
      size: Side of the images in pixels.
      batch: Images per step, unless --batch is given.
      torch: Function that returns `(module, loss)`, where the loss maps the module's output and the labels to a scalar.
      task: Section `task`.
      classes: Number of classes.
      views: Number of views of each image that a step makes, here copies; 1 for the image alone.
    """

    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    size: int
    batch: int
    torch: Callable[[], tuple[Any, Callable]]
    task: Mapping[str, Any] = SUPERVISED
    classes: int = CLASSES
    views: int = 1

    @property
    def texts(self) -> bool:
        """Whether a batch has texts and no labels."""
        return self.task["name"] == "image_text"


def batch_of(network: Network, rows: int) -> dict[str, Any]:
    """Makes a random batch.

    Args:
      network: Network of the batch.
      rows: Number of images.

    Returns:
      The fields `image` float32 [rows, size, size, 3], and `label` int32 [rows] or `tokens` int32 [rows, CONTEXT] and
      `tokens_mask` bool [rows, CONTEXT].
    """
    import jax
    import jax.numpy as jnp

    images, words = jax.random.split(jax.random.key(0))
    batch = {"image": jax.random.normal(images, (rows, network.size, network.size, 3))}
    if not network.texts:
        return batch | {"label": jax.random.randint(words, (rows,), 0, network.classes)}
    tokens = jax.random.randint(words, (rows, CONTEXT), 1, VOCABULARY)
    return batch | {"tokens": tokens, "tokens_mask": jnp.ones((rows, CONTEXT), bool)}


def training_of(network: Network, batch: Mapping[str, Any], precision: str = "float32") -> Any:
    """Makes the functions of this project that train a network, a `jaxvision.api.Training`.

    Args:
      network: Network to train.
      batch: Batch, from `batch_of`.
      precision: Type of the computation, "float32" or "bfloat16".
    """
    import jaxvision

    return jaxvision.create_training(
        batch,
        model=network.model,
        optimizer=network.optimizer,
        task=network.task,
        total=1000,
        augment="none" if network.views == 1 else f"views({network.views}, 'none')",
        classes=None if network.texts else network.classes,
        precision=precision,
    )


def timm_model(name: str, **options: Any) -> Callable[[], tuple[Any, Callable]]:
    """Makes the torch side of a classifier of timm.

    Args:
      name: Name of the model in timm.
      **options: Options of `timm.create_model`.
    """

    def build() -> tuple[Any, Callable]:
        import timm
        import torch

        return timm.create_model(name, **{"num_classes": CLASSES, **options}), torch.nn.functional.cross_entropy

    return build


def timm_vit() -> tuple[Any, Callable]:
    """The small ViT of the studies: 4 blocks of 64 dimensions, patches of 4 pixels, the mean over tokens."""
    import timm
    import torch

    size = dict(img_size=16, patch_size=4, embed_dim=64, depth=4, num_heads=2)
    head = dict(class_token=False, global_pool="avg", fc_norm=False, num_classes=10)
    return timm.models.VisionTransformer(**size, **head), torch.nn.functional.cross_entropy


def timm_cifar_resnet18() -> tuple[Any, Callable]:
    """ResNet-18 with the stem for small images: a 3x3 convolution of stride 1, and no pooling."""
    import timm
    import torch

    net = timm.create_model("resnet18", num_classes=10)
    net.conv1, net.maxpool = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False), torch.nn.Identity()
    return net, torch.nn.functional.cross_entropy


def lightly_simclr() -> tuple[Any, Callable]:
    """SimCLR of lightly: its head and its loss, on the ResNet-18 for small images. The views come one after another."""
    import torch
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    backbone, _ = timm_cifar_resnet18()
    backbone.reset_classifier(0)
    loss = NTXentLoss(temperature=0.1)
    net = torch.nn.Sequential(backbone, SimCLRProjectionHead(512, 512, 128))
    net[1].layers[-1].register_parameter("bias", None)  # as in the authors' code and ours
    return net, lambda out, _: loss(*out.chunk(2))


def cifar_resnet8() -> tuple[Any, Callable]:
    """ResNet-8 of He et al. 2016, sec. 4.2: three blocks of 16, 32 and 64 channels, zero-padded shortcuts."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, before: int, channels: int, stride: int):
            super().__init__()
            self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
            self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
            self.stride, self.zeros = stride, channels - before

        def forward(self, x: Any) -> Any:
            y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
            x = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.zeros))
            return torch.relu(x + y)

    stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
    blocks = Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    return nn.Sequential(*stem, *blocks, *head), nn.functional.cross_entropy


def open_clip_b32() -> tuple[Any, Callable]:
    """CLIP ViT-B/32 and its loss, of open_clip."""
    import open_clip

    loss = open_clip.ClipLoss()
    return open_clip.create_model("ViT-B-32", output_dict=False), lambda out, _: loss(*out[:3])


NETWORKS = {
    "vit_s16": Network(
        dict(name="vit", variant="S/16", pool="token", posemb="learned"),
        ADAMW, 224, 8, timm_model("vit_small_patch16_224"),
    ),
    "vit_b16": Network(
        dict(name="vit", variant="B/16", pool="token", posemb="learned"),
        ADAMW, 224, 4, timm_model("vit_base_patch16_224"),
    ),
    "resnet50": Network(dict(name="resnet"), SGD, 224, 8, timm_model("resnet50")),
    "convnext_t": Network(dict(name="convnext", variant="tiny"), ADAMW, 224, 8, timm_model("convnext_tiny")),
    "clip_b32": Network(
        dict(name="two_towers", variant="clip_vit_b32"),
        ADAMW, 224, 8, open_clip_b32, dict(name="image_text", loss="softmax"),
    ),
    "resnet18_32": Network(
        dict(name="resnet", variant=18, stem="cifar"), SGD, 32, 64, timm_cifar_resnet18, classes=10
    ),
    "simclr_resnet18_32": Network(
        dict(name="resnet", variant=18, stem="cifar"), SGD, 32, 32, lightly_simclr, dict(name="simclr"), 10, views=2
    ),
    "resnet8_32": Network(dict(name="resnet", variant="8"), SGD, 32, 128, cifar_resnet8, classes=10),
    "resnet8_16": Network(dict(name="resnet", variant="8"), SGD, 16, 128, cifar_resnet8, classes=10),
    "vit64_16": Network(
        dict(name="vit", variant="Ti/4", depth=4, width=64, mlp_dim=256, num_heads=2, pool="gap", posemb="learned"),
        ADAMW, 16, 128, timm_vit, classes=10,
    ),
}  # fmt: skip
TINY = {
    "tiny": NETWORKS["vit64_16"]._replace(batch=4),
    "tiny_simclr": NETWORKS["simclr_resnet18_32"]._replace(model=dict(name="resnet", variant="8"), size=16, batch=4),
}
