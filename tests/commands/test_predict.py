"""`jaxvision predict` on a user's files."""

import numpy as np
import pytest
from PIL import Image

from jaxvision.commands import predict
from jaxvision.data import shapes
from jaxvision.errors import UserError


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name, size in {"wide.jpg": (90, 60), "small.png": (10, 12), "same.webp": (32, 32)}.items():
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    return tmp_path


def test_five_classes_with_probabilities(trained, photos, capsys):
    found = predict.run(trained[0], str(photos / "*"))
    assert sorted(p.rsplit("/", 1)[1] for p in found) == ["same.webp", "small.png", "wide.jpg"]
    for ranked in found.values():
        probabilities = [p for _, p in ranked]
        assert len(ranked) == 5
        assert all(name in shapes.CLASSES for name, _ in ranked)
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0.5 <= sum(probabilities) <= 1.0 + 1e-5  # five of ten classes
    out = capsys.readouterr().out
    assert "left out" in out
    assert "broken.jpg" in out


def test_predictions_do_not_depend_on_company(trained, photos):
    together = predict.run(trained[0], str(photos / "*"))
    alone = predict.run(trained[0], str(photos / "wide.jpg"))
    (file,) = alone
    assert [n for n, _ in alone[file]] == [n for n, _ in together[file]]
    np.testing.assert_allclose([p for _, p in alone[file]], [p for _, p in together[file]], rtol=1e-3)


def test_no_file_and_no_image(trained, photos):
    with pytest.raises(UserError, match="no file matches"):
        predict.run(trained[0], str(photos / "*.tiff"))
    with pytest.raises(UserError, match="none of the 1 files"):
        predict.run(trained[0], str(photos / "broken*"))
