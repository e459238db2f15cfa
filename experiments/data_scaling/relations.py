"""The preset `relations`: a label that is made for a crossing.

`shapes` asks what the left of two distant objects is, and whether the right one is of the same kind. The kind is a
matter of recognition, which a ResNet learns from few images. The relation needs objects whose distance is about the
receptive field of ResNet-8, 25 pixels, but no more than attention for a ViT. The pilots, which README.md lists, did not
find a setting on which the ResNet leads on few images and the ViT on many.
"""

from jaxvision.analysis.criteria import Verdict
from jaxvision.analysis.crossing import Crossing
from jaxvision.commands.study import sibling

setting, small = sibling(__file__, "setting"), sibling(__file__, "small")

SIZES = (500, 4_000, 32_000)
_DATA = dict(
    name="shapes",
    host="decode",
    batch_size=32,
    classes=10,
    examples=32_000,
    split="train",
    options=dict(image_size=32, train=32_000, validation=3_000, test=1_000, question="kind_same"),
)
_VIT = dict(name="vit", variant="Ti/8", depth=4, pool="token", posemb="learned", width=64, mlp_dim=256, num_heads=2)
_SMALL_RESNET = dict(width=0.25)
_ARMS = {  # half the width costs a quarter a pixel, on four times the pixels: the FLOPs of ResNet-8 at 16 pixels
    "ResNet-8x0.5": setting.Arm(
        dict(name="resnet", variant="8", zero_init_residual=False, width=0.5), 1e-3, _SMALL_RESNET
    ),
    "BiT-8x0.5": setting.Arm(dict(name="bit", variant="R8x1", width=0.5), 1e-3, _SMALL_RESNET),
    "ViT-64-P8": setting.Arm(_VIT, 1e-3, setting.SMALL_VIT),
}
PRESET = setting.Preset(
    title="a relation of distant objects in shapes",
    data=_DATA,
    evals=dict(val=dict(name="classify", split="validation", every="20 percent", batch_size=500)),
    arms=_ARMS,
    pairs=(setting.Pair("ResNet-8x0.5", "ViT-64-P8", SIZES), setting.Pair("BiT-8x0.5", "ViT-64-P8", SIZES)),
    seeds=(0, 1, 2, 3, 4),
    steps=2_000,
    optimizer=small.ADAM,
    train=small.TRAIN,
    augment=setting.PLAIN,
    crosses=True,
)


def judge(crossing: Crossing) -> dict[str, Verdict]:
    """Judges whether a ResNet leads on few images and a ViT on many.

    Args:
      crossing: Lead of the ResNet over the ViT, and where it ends.
    """
    first, last = min(crossing.lead), max(crossing.lead)
    behind, place = crossing.lead[last], crossing.observed
    vit_leads = behind._replace(interval=behind.interval.negated(), each=tuple(-x for x in behind.each))
    inside = first < place.low and place.high < last
    return {
        "few": Verdict(
            {f"ResNet minus ViT at {first:,} examples": crossing.lead[first]},
            claim=f"the ResNet leads at {first:,} examples",
        ),
        "many": Verdict(
            {f"ViT minus ResNet at {last:,} examples": vit_leads}, claim=f"the ViT leads at {last:,} examples"
        ),
        "inside": Verdict(
            {"examples at which the gap is zero": place},
            least=first,
            further={f"{'inside' if inside else 'not inside'} {first:,} to {last:,}": inside},
            show=lambda at: f"{at.mean:,.0f} (95 % interval {at.low:,.0f} to {at.high:,.0f})",
            claim=f"the number of examples at which the two are equal lies inside {first:,} to {last:,}",
            bound=f"{first:,} examples",
            sample=f"{len(behind.each)} seeds",
        ),
    }
