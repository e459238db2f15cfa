"""What the processes of a job have in common is compared."""

import errno
import json

from jaxvision import workdir as workdirs
from jaxvision.data.fingerprint import fingerprint
from jaxvision.data.sources import Info, Source
from jaxvision.parallel import agreement


def test_differences_are_told_by_name_with_both_values():
    there = {"config": {"optimizer": {"learning_rate": 0.1}}, "devices": {"count": 4}, "code": {"files": {"a.py": "1"}}}
    here = {"config": {"optimizer": {"learning_rate": 0.3}}, "devices": {"count": 4}, "code": {"files": {"b.py": "1"}}}
    assert agreement._differences(there, here) == [
        "config.optimizer.learning_rate: 0.1 -> 0.3",
        "code.files.a.py: '1' -> (absent)",
        "code.files.b.py: (absent) -> '1'",
    ]
    json.dumps([workdirs.code({}), agreement.devices()])


class Listed(Source):
    """Bytes with names."""

    def __init__(self, images, names, classes=("a", "b")):
        self.info = Info("set", "train", len(images), classes, len(classes))
        self._images, self._names = images, names

    def __len__(self):
        return len(self._images)

    def __getitem__(self, index):
        if self._images[index] is None:
            raise OSError(errno.EIO, "bad")
        return {"image": self._images[index], "label": index % 2, "text": ("one", "two")}

    def describe(self, index):
        return self._names[index]


def test_the_fingerprint_of_a_set_follows_its_content_and_not_its_place():
    images, names = [b"%d" % i for i in range(20)], [f"/a/b/{i}.png" for i in range(20)]
    first = fingerprint(Listed(images, names))
    assert first == fingerprint(Listed(images, [name.replace("/a/", "/mnt/c/") for name in names]))
    changes = {
        "content": Listed([*images[:-1], b"x"], names),
        "names": Listed(images, ["/a/b/other.png", *names[1:]]),
        "examples": Listed(images[:-1], names[:-1]),
        "class_names": Listed(images, names, ("a", "c")),
    }
    for key, other in changes.items():
        assert fingerprint(other)[key] != first[key]
    assert fingerprint(Listed([None, *images[1:]], names))["content"] != first["content"]
    json.dumps(first)
