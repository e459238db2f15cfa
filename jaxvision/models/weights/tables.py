"""The tables of every library whose weights can be imported, by library and by our model."""

from jaxvision.models.weights import flax_names, torch_names
from jaxvision.models.weights.table import Table

TABLES: dict[str, dict[str, tuple[Table, ...]]] = {
    "timm": torch_names.TIMM,
    "torchvision": torch_names.TORCHVISION,
    "openai_clip": torch_names.clip(gelu="quick"),
    "open_clip": torch_names.clip(gelu="exact"),
    "big_vision": flax_names.BIG_VISION,
    "bit": flax_names.BIT,
    "keras": flax_names.KERAS,
    "pytorch_resnet_cifar10": torch_names.RESNET_CIFAR10,  # github.com/akamaster/pytorch_resnet_cifar10
    "lenet5": torch_names.LENET5,  # github.com/activatedgeek/LeNet-5 and its copies
}
