"""Speed is counted without pauses, and utilisation against a known peak only."""

from types import SimpleNamespace

import jax
import pytest

from jaxvision.train import throughput


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(time=100.0)
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now.time)
    return now


def test_pauses_do_not_count_and_waiting_does(clock):
    meter = throughput.Throughput(batch_size=8, flops=None)
    meter.stepped(5)
    clock.time += 10
    meter.paused(6)
    meter.waited(1)
    assert meter.read() == {"examples_per_second": 10.0, "data_wait": 0.25}
    clock.time += 2
    meter.stepped(1)
    assert meter.read() == {"examples_per_second": 4.0, "data_wait": 0.0}


def test_utilisation_needs_a_peak(clock, monkeypatch):
    monkeypatch.setattr(throughput, "peak_flops", lambda: 100.0)
    meter = throughput.Throughput(batch_size=1, flops=40.0 * jax.device_count())
    meter.stepped(5)
    clock.time += 10
    assert meter.read()["mfu"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("cpu", None),
    ],
)
def test_peak_by_the_longest_name(kind, peak):
    assert throughput.peak_flops(SimpleNamespace(device_kind=kind)) == peak
