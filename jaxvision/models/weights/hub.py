"""Weights of the Hugging Face Hub by name, "hf:timm/vit_base_patch16_224.augreg_in21k": a file in the local cache.

The library `huggingface_hub` downloads, caches and resumes, and reads its settings: HF_HOME, HF_ENDPOINT, HF_TOKEN,
HF_HUB_OFFLINE. A name without a revision means the newest one; the commit is recorded with the run.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from jaxvision.errors import UserError
from jaxvision.models.weights import folder
from jaxvision.reading import read_json

PREFIX = "hf:"
INSTALL = "pip install 'jaxvision[hub]'"
# For each library the files that its repositories hold: the config, which tells the library, and the weights.
FILES = {
    "timm": ("config.json", "model.safetensors"),
    "open_clip": ("open_clip_config.json", "open_clip_model.safetensors"),
    "jaxvision": (folder.META, folder.WEIGHTS),
}
_NAME = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


class Hosted(NamedTuple):
    """Weights from the hub.

    Attributes:
      path: File of the weights in the local cache; for our own, the folder.
      source: Library that wrote them.
      name: Name as it was given.
      revision: Commit of the repository.
      sha256: SHA-256 of the file, in hex digits.
      architecture: timm's name of the network; None for others.
    """

    path: Path
    source: str
    name: str
    revision: str
    sha256: str
    architecture: str | None

    @property
    def note(self) -> str:
        """A line that says what was read."""
        return f"{self.name}: commit {self.revision[:12]}, sha256 {self.sha256}"


def is_hosted(name: object) -> bool:
    """Returns whether a name is one of weights on the hub.

    Args:
      name: Name or path of weights.

    >>> is_hosted("hf:timm/resnet18.a1_in1k"), is_hosted("weights/vit_b16")
    (True, False)
    """
    return isinstance(name, str) and name.startswith(PREFIX)


def fetch(name: str, source: str | None = None) -> Hosted:
    """Returns weights of the hub, downloaded if the local cache does not have them.

    Args:
      name: Name "hf:OWNER/NAME", or "hf:OWNER/NAME@REVISION" with a branch, a tag or a commit.
      source: Library whose files are wanted, one of `FILES`; None for the first that the repository has.

    Raises:
      UserError: There is no such repository, revision or file; it is not reachable and not in the cache; or
        huggingface_hub is not installed.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise UserError(
            f"{name!r} does not name weights of the hub: write hf:OWNER/NAME or hf:OWNER/NAME@REVISION, as in "
            "hf:timm/vit_base_patch16_224.augreg_in21k"
        )
    repository, revision = match["repository"], match["revision"]
    commit, files = _listed(name, repository, revision)
    for library in [source] if source in FILES else FILES:
        if not set(FILES[library]) <= files:
            continue
        config = _download(name, repository, revision, commit, FILES[library][0])
        if library == "timm" and not _of_timm(config):
            continue  # before gigabytes of another library
        weights = _download(name, repository, revision, commit, FILES[library][1])
        architecture = _architecture(read_json(config)) if library == "timm" else None
        path = weights.parent if library == "jaxvision" else weights
        return Hosted(path, library, name, commit, folder.sha256(weights), architecture)
    wanted = "; ".join(f"{config} and {weights} ({library})" for library, (config, weights) in FILES.items())
    raise UserError(
        f"{name} holds no weights that can be read: want {wanted}. Weights of transformers and other libraries, or in "
        "several files, must be downloaded and converted: jaxvision convert --from=..."
    )


def _listed(name: str, repository: str, revision: str | None) -> tuple[str, set[str]]:
    """The commit of a revision and the names of its files: those on the hub, or in the cache without a network."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise UserError(f"{name} needs the library huggingface_hub: {INSTALL}") from None
    try:
        # Asked once: the download of a file that is not cached would retry for half a minute without a network.
        info = huggingface_hub.HfApi().model_info(repository, revision=revision, timeout=10)
        return str(info.sha), {one.rfilename for one in info.siblings or ()}
    except errors.GatedRepoError as error:
        raise UserError(f"{name} is gated: accept its licence on the hub, then run: hf auth login") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{name}: the hub has no such repository, or it is private (then run: hf auth login)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{name}: the repository has no revision {revision!r}") from error
    except errors.HFValidationError as error:
        raise UserError(f"{name}: {_reason(error)}") from error
    except Exception as error:  # the types of network errors depend on the version of the library
        for names in FILES.values():
            for file in names:
                path = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision)
                if isinstance(path, str):
                    snapshot = Path(path).parent
                    return snapshot.name, {one.name for one in snapshot.iterdir()}
        raise UserError(f"{name} is not in the local cache, and the hub cannot be reached: {_reason(error)}") from error


def _download(name: str, repository: str, revision: str | None, commit: str, file: str) -> Path:
    """The file in the cache."""
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(repository, file, revision=commit)
    if isinstance(cached, str):
        return Path(cached)
    try:
        # By the name of the revision, so that the cache knows it, unless that has moved on meanwhile.
        path = Path(huggingface_hub.hf_hub_download(repository, file, revision=revision))
        if path.parent.name != commit:
            path = Path(huggingface_hub.hf_hub_download(repository, file, revision=commit))
        return path
    except Exception as error:
        raise UserError(f"{name}: {file} cannot be downloaded: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The first line of the innermost error, which says what failed."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__


def _of_timm(config: Path) -> bool:
    content = read_json(config)
    return isinstance(content, dict) and _architecture(content) is not None


def _architecture(content: Any) -> str | None:
    """timm's name of the network, with the tag of its weights."""
    stated = content.get("pretrained_cfg") or {}
    name, tag = content.get("architecture") or stated.get("architecture"), stated.get("tag")
    return f"{name}.{tag}" if name and tag else name
