"""Measures examples per second, the share of time spent waiting for data, and model FLOPs utilisation."""

import time

import jax

from jaxvision import hardware


def peak_flops(device: jax.Device | None = None) -> float | None:
    """Returns the peak bfloat16 FLOP/s of a device, or None if it is not known (`hardware.CHIPS`), as for every CPU.

    Args:
      device: Device; None for the first one.
    """
    chip = hardware.of_kind((device or jax.devices()[0]).device_kind)
    return None if chip is None else chip.bfloat16


class Throughput:
    """Measures the training since the last `read`, without evaluations and checkpoints.

    Args:
      batch_size: Number of examples in a step.
      flops: Number of FLOPs of a step, see `step_costs.flops_of`; None if not known.
    """

    def __init__(self, batch_size: int, flops: float | None):
        self.batch_size, self.flops = batch_size, flops
        self.reset()

    def reset(self) -> None:
        """Starts a new measurement now."""
        self._start, self._waited, self._paused, self._steps = time.perf_counter(), 0.0, 0.0, 0

    def waited(self, seconds: float) -> None:
        """Adds time during which the loop waited for data.

        Args:
          seconds: Length of the wait.
        """
        self._waited += seconds

    def paused(self, seconds: float) -> None:
        """Excludes time that was not training.

        Args:
          seconds: Length of the pause.
        """
        self._paused += seconds

    def stepped(self, steps: int) -> None:
        """Adds steps.

        Args:
          steps: Number of steps.
        """
        self._steps += steps

    def read(self) -> dict[str, float]:
        """Returns the numbers since the last call, and starts a new measurement. Call it when the steps have ended.

        Returns:
          `examples_per_second` over all devices; `data_wait`, a share in [0, 1]; and, if the peak of the device is
          known, `mfu` in [0, 1]: the FLOPs of the steps divided by those that all devices could do at their bfloat16
          peak (PaLM, Chowdhery et al. 2022, appendix B, but of all FLOPs, also of those that `remat` repeats).
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
