"""Examples per second, share of time spent waiting for data, and model FLOPs utilisation."""

import time
from collections.abc import Callable
from typing import Any

import jax

# Peak dense FLOP/s of one device in bfloat16, by `device_kind`; from the vendors' data sheets.
PEAK_FLOPS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
    "NVIDIA T4": 65e12,
    "Tesla T4": 65e12,
    "Tesla V100": 125e12,
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,  # v5p
    "TPU v6 lite": 918e12,
}


def peak_flops(device: jax.Device | None = None) -> float | None:
    """Peak bfloat16 FLOP/s of a device, or None where it is not known (every CPU)."""
    kind = (device or jax.devices()[0]).device_kind
    matches = [name for name in PEAK_FLOPS if kind.startswith(name)]
    return PEAK_FLOPS[max(matches, key=len)] if matches else None


def step_flops(step: Callable, state: Any, batch: Any) -> float | None:
    """Floating-point operations of one step, by XLA's count of the program before optimisation.

    Args:
      step: a pure function of state and batch.
      state, batch: `ShapeDtypeStruct`s.

    Returns:
      FLOPs over the whole mesh, a multiply-add counted as two; None where XLA gives no count.
    """
    cost = jax.jit(step).lower(state, batch).cost_analysis()
    return (cost or {}).get("flops")


class Throughput:
    """Measures the stretch of training since the last `read`, without evaluations and checkpoints.

    Args:
      batch_size: examples a step.
      flops: of one step, see `step_flops`; None where not known.
    """

    def __init__(self, batch_size: int, flops: float | None):
        self.batch_size, self.flops = batch_size, flops
        self.reset()

    def reset(self) -> None:
        """Starts a new stretch now."""
        self._start, self._waited, self._paused, self._steps = time.perf_counter(), 0.0, 0.0, 0

    def waited(self, seconds: float) -> None:
        """Adds time during which the loop waited for data."""
        self._waited += seconds

    def paused(self, seconds: float) -> None:
        """Takes out time that was not training."""
        self._paused += seconds

    def stepped(self, steps: int) -> None:
        """Adds finished steps."""
        self._steps += steps

    def read(self) -> dict[str, float]:
        """The numbers of the stretch; the next one starts. Call it when the steps have really ended.

        `examples_per_second` over all devices; `data_wait` in [0, 1]; `mfu` in [0, 1], where the
        peak of the device is known: FLOPs of the steps over what all devices could do at their
        bfloat16 peak (PaLM, Chowdhery et al. 2022, appendix B, but with XLA's count of FLOPs).
        """
        seconds = max(time.perf_counter() - self._start - self._paused, 1e-9)
        values = {
            "examples_per_second": self._steps * self.batch_size / seconds,
            "data_wait": self._waited / seconds,
        }
        peak = peak_flops()
        if peak and self.flops:
            values["mfu"] = self._steps * self.flops / seconds / (peak * jax.device_count())
        self.reset()
        return values
