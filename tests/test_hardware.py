"""One table of accelerators, which the page on scaling shows."""

from pathlib import Path

import pytest

from jaxvision import hardware
from jaxvision.errors import UserError
from jaxvision.hardware import CHIPS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A100 80GB PCIe", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA L4", "L4"),
        ("Tesla V100-SXM2-16GB", "V100-16GB"),
        ("Tesla V100-SXM2-32GB", "V100"),
        ("Tesla T4", "T4"),
        ("TPU v5p", "v5p"),
        ("TPU v6 lite", "v6e"),
    ],
)
def test_devices_as_jax_names_them(kind, name):
    assert hardware.of_kind(kind) is CHIPS[name]


@pytest.mark.parametrize(
    "kind",
    [
        "NVIDIA L40",
        "NVIDIA H100 NVL",
        "NVIDIA H200 NVL",
        "NVIDIA H100 64GB HBM2",
        "NVIDIA A100-SXM-64GB",
        "NVIDIA A100-SXM4-80GB MIG 3g.40gb",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "Tesla V100-PCIE-16GB",
        "TPU v4 lite",
    ],
)
def test_another_card_is_not_taken_for_one_in_the_table(kind):
    assert hardware.of_kind(kind) is None


@pytest.mark.parametrize("name", ["V5E", "tpu-v5e", "TPU v5 lite", " v5e "])
def test_names_as_people_write_them(name):
    assert hardware.find(name) is CHIPS["v5e"]


def test_an_unknown_device_lists_the_known_ones():
    with pytest.raises(UserError, match="unknown device kind 'H10'; did you mean 'H100'"):
        hardware.find("H10")


def test_the_page_on_scaling_has_the_same_table(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import scaling

    assert scaling.chip_table() in (ROOT / "docs" / "scaling.md").read_text()
