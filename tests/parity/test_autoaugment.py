"""AutoAugment's tables against torchvision's."""

import pytest

from jaxvision.augment.autoaugment import POLICIES, sub_policies

pytestmark = pytest.mark.parity


def torchvision_name(name):
    return name.replace("autocontrast", "auto_contrast").title().replace("_", "")


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("name", POLICIES)
def test_tables_equal_torchvision(name):
    from torchvision import transforms

    theirs = transforms.AutoAugment(transforms.AutoAugmentPolicy(name)).policies
    mine = [tuple((torchvision_name(op), p, m) for op, p, m in pair) for pair in sub_policies(name)]
    assert mine == [tuple((op, p, m or 0) for op, p, m in pair) for pair in theirs]
