"""Names of the authors of DINO and DINOv2: tables for the files that they publish, and for checkpoints of their code.

DINO: github.com/facebookresearch/dino, ViTs and a ResNet-50. DINOv2: github.com/facebookresearch/dinov2, ViTs with and
without registers; the MLP of its ViT-g is gated, which our ViT is not. Checkpoints hold student, teacher and the heads
of pretraining, which are left out.
"""

from jaxvision.models.weights import misfits
from jaxvision.models.weights.torch_names import RESNET, VIT, VIT_BLOCK, VIT_ZEROS, torch_table
from jaxvision.models.weights.torch_properties import RESNET_PROPERTIES

HEADS = ("", "backbone.")  # a file of the network alone, and one that has heads of pretraining beside it
VIT_LACKS = misfits.vit_lacks("parallel='", "rep_size", "distillation", "pre_norm", "map", "fc_norm", "qk_norm")
COMPUTES = {"norm_epsilon": 1e-6, "gelu": "exact", "head_width": 64}
CHUNKS = (r"^blocks\.\d+\.\d+\.", "Blocks in chunks (block_chunks above 0) are not read: merge blocks.I.J to blocks.J.")
DINO = {
    "vit": (
        torch_table(
            *VIT,
            *VIT_BLOCK,
            prefixes=HEADS,
            options=((r".", {"posemb": "learned", "pool": "token", "gelu": "exact"}),),
            computes=COMPUTES,
            zeros=VIT_ZEROS,
            lacks=(*VIT_LACKS, *misfits.vit_lacks("registers", "layer scale")),
            reasons=misfits.VIT_REASONS,
        ),
    ),
    "resnet": (
        torch_table(
            *RESNET,
            prefixes=HEADS,
            lacks=misfits.TORCHVISION_RESNET,
            reasons=misfits.RESNET_REASONS,
            **RESNET_PROPERTIES,
        ),
    ),
}
DINOV2 = {
    "vit": (
        torch_table(
            (r"^registers$", "register_tokens"),
            *VIT,
            *VIT_BLOCK,
            prefixes=HEADS,
            unused=(r"^mask_token$",),  # of the pretraining with masked patches
            options=(
                (r".", {"posemb": "learned", "pool": "token", "gelu": "exact"}),
                (r"\.ls1\.gamma$", {"layer_scale": 1e-5}),
                (r"^register_tokens$", lambda arrays: {"registers": arrays["register_tokens"].shape[-2]}),
            ),
            computes=COMPUTES,
            zeros=VIT_ZEROS,
            lacks=VIT_LACKS,
            reasons=(CHUNKS, *misfits.VIT_REASONS),
        ),
    ),
}
