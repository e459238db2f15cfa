"""Images per second, and per second of CPU time, of the input pipeline: this project against tf.data and torch.

    python benchmarks/input_pipeline.py
    python benchmarks/input_pipeline.py --tables small --rounds 10

crop    2,000 JPEGs like photographs (made at the first run: 500x375 pixels, 60 to 110 kB), decoded, cropped by
        random_resized_crop(224), flipped and batched. tf.data decodes only the crop. This project flips on the
        device, so its rows end with the batch.
simclr  the two views of SimCLR: crop, flip, jitter, grey, blur. The others make both on the host. This project
        decodes and resizes once on the host and makes the views in the step, on the device. The device has its own
        row; on an accelerator it takes no CPU time.
small   50,000 images of 32x32 pixels in memory: random_crop(32, 4), flip_lr and color_jitter or randaugment.

Every implementation runs in its own process; they take turns, and ratios compare within a round. Libraries that are
not installed are skipped (pip install tensorflow torch torchvision; 'jaxvision[opencv]').
"""

import argparse
import functools
import importlib.util
import os
import statistics
import tempfile
from pathlib import Path

import input_peers as peers
import numpy as np
from machine import print_machine
from turns import Build, Turn, take_turns

PHOTOS = 2000
SMALL = 50_000
NEEDS = {"tf.data": "tensorflow", "torch": "torchvision", "opencv": "cv2"}
SIMCLR = (
    "views(2, 'random_resized_crop(224)|flip_lr|color_jitter(0.8, 0.8, 0.8, 0.2, p=0.8)|grayscale(0.2)"
    "|gaussian_blur(p=0.5)')"
)


def make_photos(folder: Path) -> list[str]:
    """Makes pictures with the spectrum of photographs, a gradient of light and some shapes: `folder/train/CLASS/*.jpg`.

    Args:
      folder: Folder of the pictures; existing ones are kept.

    Returns:
      Their paths.
    """
    paths = [folder / "train" / f"{i % 10}" / f"{i:04}.jpg" for i in range(PHOTOS)]
    if not paths[-1].exists():
        print(f"making {PHOTOS} JPEGs in {folder}")
        rng = np.random.default_rng(0)
        grounds = [_noise(rng) for _ in range(20)]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_photo(rng, grounds))
    sizes = np.array([path.stat().st_size for path in paths]) / 1000
    print(f"{PHOTOS} JPEGs of 500x375 pixels, {sizes.min():.0f} to {sizes.max():.0f} kB, mean {sizes.mean():.0f} kB")
    return [str(path) for path in paths]


def _noise(rng: np.random.Generator) -> np.ndarray:
    """Noise whose amplitude falls with frequency, as in natural images: float [375, 500, 3], deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(375)[:, None], np.fft.rfftfreq(500)[None])
    frequency[0, 0] = np.inf
    channels = [np.fft.irfft2(np.fft.rfft2(rng.standard_normal((375, 500))) / frequency) for _ in range(3)]
    image = np.stack([0.8 * channels[0] + 0.2 * channel for channel in channels], axis=2)  # colours go together
    return image / image.std()


def _photo(rng: np.random.Generator, grounds: list[np.ndarray]) -> bytes:
    import simplejpeg

    rows, columns = np.mgrid[:375, :500]
    ground = np.roll(grounds[rng.integers(len(grounds))], rng.integers(0, 375, 2), axis=(0, 1))
    light = 120 + rng.uniform(-60, 60) * (rows / 375 - 0.5) + rng.uniform(-60, 60) * (columns / 500 - 0.5)
    image = light[:, :, None] + rng.uniform(30, 50) * ground
    for _ in range(rng.integers(1, 5)):
        centre, radii = rng.uniform((0, 0), (375, 500)), rng.uniform(20, 100, 2)
        inside = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 < 1
        image[inside] = 0.7 * image[inside] + 0.3 * rng.uniform(0, 255, 3)
    return simplejpeg.encode_jpeg(np.clip(image, 0, 255).astype(np.uint8), 85, "RGB", "420")


def our_loader(folder: Path, host: str, threads: int) -> peers.Run:
    """Batches from this project's loader.

    Args:
      folder: Folder of the pictures.
      host: Spec of host operations.
      threads: Number of threads.
    """
    from jaxvision.data import open_source, train_batches

    source = open_source("folder", "train", data_dir=str(folder))

    def run(examples: int) -> int:
        steps = -(-examples // peers.BATCH)
        options = dict(batch_size=peers.BATCH, seed=0, start=0, stop=steps, threads=threads)
        for _ in train_batches(source, host, **options):
            pass
        return steps * peers.BATCH

    return run


def our_device(images: np.ndarray, spec: str) -> peers.Run:
    """Rows of a set in memory, selected and augmented in one jitted function.

    Args:
      images: Images, uint8 [n, h, w, 3].
      spec: Spec of the augmentation.
    """
    import jax

    from jaxvision import augment
    from jaxvision.data import order

    images, transform = jax.device_put(images), augment.make_augmentation(spec)

    @jax.jit
    def batch(images, indices, rng):
        return transform(rng, {"image": images[indices]})["image"]

    def run(examples: int) -> int:
        steps = -(-examples // peers.BATCH)
        for step in range(steps):
            indices = order.indices(0, len(images), step * peers.BATCH, (step + 1) * peers.BATCH)
            jax.block_until_ready(batch(images, indices, jax.random.fold_in(jax.random.key(0), step)))
        return steps * peers.BATCH

    return run


def crop_builds(folder: Path, paths: list[str], cores: int) -> dict[str, Build]:
    """Returns the implementations of the table "crop" by name.

    Args:
      folder: Folder of the pictures.
      paths: Paths of the pictures.
      cores: Number of threads or worker processes.
    """
    return {
        "jaxvision": functools.partial(our_loader, folder, "decode|random_resized_crop(224)", cores),
        "jaxvision fast, opencv": functools.partial(
            our_loader, folder, "decode(fast=True)|random_resized_crop(224, method='opencv_linear')", cores
        ),
        "tf.data uint8": functools.partial(peers.tf_crop, paths, cores, "uint8"),
        "tf.data float32": functools.partial(peers.tf_crop, paths, cores, "float32"),
        "torch Pillow": functools.partial(peers.torch_crop, paths, cores),
    }


def simclr_builds(folder: Path, paths: list[str], cores: int) -> dict[str, Build]:
    """Returns the implementations of the table "simclr" by name.

    Args:
      folder: Folder of the pictures.
      paths: Paths of the pictures.
      cores: Number of threads or worker processes.
    """
    stored = np.random.default_rng(0).integers(0, 256, (2 * peers.BATCH, 256, 256, 3), np.uint8)
    return {
        "jaxvision host": functools.partial(our_loader, folder, "decode|resize_short(256)|random_crop(256)", cores),
        "jaxvision fast, opencv": functools.partial(
            our_loader, folder, "decode(fast=True)|resize_short(256, method='opencv_linear')|random_crop(256)", cores
        ),
        "jaxvision device": functools.partial(our_device, stored, SIMCLR),
        "tf.data": functools.partial(peers.tf_simclr, paths, cores),
        "torch Pillow": functools.partial(peers.torch_simclr, paths, cores),
    }


def small_builds(cores: int, policy: str) -> dict[str, Build]:
    """Returns the implementations of the table "small" by name.

    Args:
      cores: Number of threads or worker processes.
      policy: Policy of the colours, "color_jitter" or "randaugment".
    """
    images = np.random.default_rng(0).integers(0, 256, (SMALL, 32, 32, 3), np.uint8)
    op = {"color_jitter": "color_jitter(0.4, 0.4, 0.4)", "randaugment": "randaugment(2, 10)"}[policy]
    builds = {
        "jaxvision device": functools.partial(our_device, images, f"random_crop(32, 4)|flip_lr|{op}"),
        "torch Pillow": functools.partial(peers.torch_small, images, cores, policy),
    }
    if policy == "color_jitter":
        builds["tf.data"] = functools.partial(peers.tf_small, images, cores)
    return builds


def installed(builds: dict[str, Build]) -> dict[str, Build]:
    """Selects the implementations whose library is installed, and prints which are skipped.

    Args:
      builds: Implementations by name.
    """
    kept = {}
    for name, build in builds.items():
        missing = [m for word, m in NEEDS.items() if word in name and not importlib.util.find_spec(m)]
        if missing:
            print(f"{name}: skipped, {missing[0]} is not installed")
        else:
            kept[name] = build
    return kept


def print_table(title: str, turns: dict[str, list[Turn]]) -> None:
    """Prints the medians of each implementation, and its ratio to the first.

    Args:
      title: Title of the table.
      turns: Measurements of each implementation.
    """
    first = next(iter(turns))
    print(f"\n{title}\n{'':24}{'images/CPU s':>14}{'images/s':>10}{f'per CPU s / {first}':>32}")
    for name, values in turns.items():
        ratios = [value.per_cpu_second / ours.per_cpu_second for value, ours in zip(values, turns[first])]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        per_cpu, per_second = (statistics.median(column) for column in zip(*((v[1], v[0]) for v in values)))
        print(f"{name:24}{per_cpu:14,.0f}{per_second:10,.0f}{ratio if name != first else '':>32}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=("crop", "simclr", "small"), default=("crop", "simclr", "small"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--examples", type=int, default=PHOTOS, help="examples in one turn")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="threads, or worker processes for torch")
    parser.add_argument("--data_dir", type=Path, default=Path(tempfile.gettempdir()) / "jaxvision_photos")
    args = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

    packages = ("jaxvision", "simplejpeg", "pillow", "opencv-python-headless", "tensorflow-cpu", "torch", "torchvision")
    print_machine(packages)

    paths = make_photos(args.data_dir) if {"crop", "simclr"} & set(args.tables) else []
    tables = {}
    if "crop" in args.tables:
        tables["decode, random_resized_crop(224), flip"] = crop_builds(args.data_dir, paths, args.cores)
    if "simclr" in args.tables:
        tables["two views of SimCLR at 224 pixels"] = simclr_builds(args.data_dir, paths, args.cores)
    if "small" in args.tables:
        for policy in ("color_jitter", "randaugment"):
            tables[f"random_crop(32, 4), flip, {policy}"] = small_builds(args.cores, policy)
    for title, builds in tables.items():
        print_table(title, take_turns(installed(builds), args.examples, args.rounds))


if __name__ == "__main__":
    main()
