import numpy as np
import pytest

from jaxvision import progress
from jaxvision.data import resident
from jaxvision.data.loader import eval_batches
from jaxvision.errors import UserError


def test_load_equals_the_evaluation_batches(pictures, monkeypatch):
    monkeypatch.setattr(resident, "_BATCH", 8)
    arrays = resident.load_arrays(pictures, "decode|resize(6)", fields=("image", "label", "weight"))
    (batch,) = eval_batches(pictures, "decode|resize(6)", batch_size=23, fields=("image", "label", "weight"))
    assert arrays.keys() == batch.keys()
    for field in batch:
        np.testing.assert_array_equal(arrays[field], batch[field], strict=True)


def test_bad_images_are_marked(pictures):
    pictures.images[4] = b"broken"
    arrays = resident.load_arrays(pictures, "decode")
    assert np.flatnonzero(~arrays["mask"]).tolist() == [4]
    np.testing.assert_array_equal(arrays["image"][4], arrays["image"][5])


def test_progress_is_told(pictures, monkeypatch, capsys):
    monkeypatch.setattr(progress, "FIRST", 0)
    resident.load_arrays(pictures, "decode|resize(6)")
    assert "into memory" in capsys.readouterr().err


def test_fits(pictures):
    size = 23 * 6 * 6 * 3
    assert resident.fits(pictures, "decode|resize(6)", size)
    assert not resident.fits(pictures, "decode|resize(6)", size - 1)
    assert not resident.fits(pictures, "decode|random_resized_crop(6)", size)
    with pytest.raises(UserError):
        resident.fits(pictures, "decode|rezise(6)", size)
