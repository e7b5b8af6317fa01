"""Checkpoints on the Hugging Face hub: `hf:owner/repo[/file][@revision]` in place of a path.

Files come through the library huggingface_hub (the extra `hub`) and stay in its cache; its environment variables hold:
HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HF_HUB_ETAG_TIMEOUT.

Where the hub cannot be reached, the cache serves, and for a commit that it has whole, always. Whether the hub can be is
found out here, once, before the library is asked for a file: for one that the cache has not, that would wait half a
minute and more until the hub comes back.
"""

import re
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn

from mpvideo.checkpoint.header import CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE, is_bare_name
from mpvideo.checkpoint.reading import read_json
from mpvideo.errors import CheckpointError, MPVideoError, UsageError
from mpvideo.files import reason
from mpvideo.hub import PREFIX, HubReference, find_reference
from mpvideo.text import printable

if TYPE_CHECKING:
    import ssl

_NO_CONNECTION = frozenset({"ConnectError", "ConnectTimeout"})
"""What the network libraries that huggingface_hub uses, one or the other by its version, call it."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_on_hub(path: PurePath) -> bool:
    """Whether a path stands for something on the hub. A file of such a name goes by its whole path."""
    return str(path).startswith(PREFIX)


def hub_name(path: PurePath | None) -> str | None:
    """What records and commands call a checkpoint on the hub, the same on all systems; None for any other."""
    return path.as_posix() if path is not None and is_on_hub(path) else None


def located(path: Path) -> Path:
    """The file that a path stands for: itself, or for one on the hub its copy in the cache, fetched if need be.

    Raises:
        UsageError: it is no `hf:owner/repo[/file][@revision]`, or huggingface_hub is not installed.
        CheckpointError: the hub has no such repository, revision or file, or does not give it out.
        MPVideoError: the hub cannot be reached and the cache has no copy.
    """
    if not is_on_hub(path):
        return path
    reference = find_reference(path.as_posix())
    if reference is None:
        raise UsageError(
            f"a checkpoint on the hub must be hf:owner/repo[/file][@revision], got {printable(str(path))!r}",
            hint="For example hf:owner/repo/model.safetensors@main. Of a file of such a name give the whole path.",
        )
    return _fetch(reference)


def _fetch(reference: HubReference) -> Path:
    try:
        from huggingface_hub import constants, errors
        from huggingface_hub.utils import disable_progress_bars, logging
    except ImportError:
        raise UsageError(
            f"{printable(reference)} must be fetched with the package huggingface_hub, which is not installed",
            hint="Run `pip install 'mpvideo[hub]'`.",
        ) from None
    logging.set_verbosity_error()  # it tells of each attempt; what becomes of them is told below
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        if _COMMIT.fullmatch(reference.revision or "") and _cached(reference, reference.first) is not None:
            with suppress(errors.LocalEntryNotFoundError, MPVideoError):  # where it is not whole, it is asked for below
                return _take(reference, offline=True)  # a commit never changes
        return _take(reference, offline=constants.HF_HUB_OFFLINE or not _is_in_reach(reference))
    except errors.LocalEntryNotFoundError as error:
        raise _out_of_reach(reference) from error
    except errors.HfHubHTTPError as error:
        _explain(reference, error)
    except errors.HFValidationError as error:
        raise UsageError(f"{printable(reference)} is no name on the hub: {printable(error)}") from None
    except errors.FileMetadataError as error:
        raise MPVideoError(
            f"{printable(reference)} cannot be fetched: what answers is no hub", hint="Check HF_ENDPOINT and proxies."
        ) from error


def _take(reference: HubReference, *, offline: bool) -> Path:
    if reference.file is None:
        return _checkpoint(reference, offline=offline)
    weights = _download(reference, reference.file, offline=offline)
    if PurePosixPath(reference.file).name in (WEIGHTS_FILE, INDEX_FILE):  # which are read with what lies beside them
        _download_config(reference, reference.file, offline=offline)
    return weights


def _cached(reference: HubReference, file: str) -> object:
    """What the cache knows of a file: its path, None, or something else where the hub has said that it has none."""
    from huggingface_hub import try_to_load_from_cache

    try:
        return try_to_load_from_cache(reference.repo, file, revision=reference.revision)
    except (OSError, ValueError):  # which asking for the file tells of
        return None


def _is_in_reach(reference: HubReference) -> bool:
    """Whether there is a connection to the hub; what that says is not looked at here.

    Where the cache knows nothing of the file, it is tried again, as long as that begins within 10 seconds of the first
    try, or HF_HUB_ETAG_TIMEOUT. One try may take as long itself.

    Raises:
        MPVideoError: what answers there cannot prove what it is: trying again would not help, and the library tells of
            it, too, as of a hub that cannot be reached.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    known = _cached(reference, reference.first) is not None
    began, wait = time.monotonic(), 1.0
    while True:
        try:
            get_hf_file_metadata(hf_hub_url(reference.repo, reference.first, revision=reference.revision))
        except Exception as error:
            if (doubt := _tls_error(error)) is not None:
                raise MPVideoError(
                    f"{printable(reference)} cannot be fetched: no safe connection to the hub: "
                    f"{printable(reason(doubt), 300)}",
                    hint="Check HF_ENDPOINT, proxies, certificates and the clock; HF_HUB_OFFLINE=1 takes the cache.",
                ) from error
            kinds = {kind.__name__ for kind in type(error).__mro__}
            if _NO_CONNECTION.isdisjoint(kinds):
                return True  # the hub answers, or the library has to say what is wrong
        else:
            return True
        if known or time.monotonic() - began + wait > constants.HF_HUB_ETAG_TIMEOUT:
            return False
        time.sleep(wait)
        wait *= 2


def _tls_error(error: BaseException | None) -> "ssl.SSLError | None":
    """The error of the TLS connection that led to this one, if not that it broke off.

    One network library wraps it in one of its own.
    """
    import ssl  # the network's, which only few calls need

    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return None if isinstance(error, ssl.SSLEOFError) else error


def _checkpoint(reference: HubReference, *, offline: bool) -> Path:
    """The checkpoint that a repository is: model.safetensors, or the index with all shards; and its config.json.

    Offline, it is what the cache has of it.
    """
    from huggingface_hub import errors

    try:
        weights = _download(reference, WEIGHTS_FILE, offline=offline)
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.LocalEntryNotFoundError) and not offline:
            raise  # out of reach: the index would be as well
        try:
            weights = _download(reference, INDEX_FILE, offline=offline)
        except errors.LocalEntryNotFoundError:
            raise
        except errors.EntryNotFoundError:
            raise CheckpointError(
                f"{printable(reference)} must hold {WEIGHTS_FILE} or {INDEX_FILE}, it has neither",
                hint=f"Name one of its files: {PREFIX}{reference.repo}/FILE.",
            ) from error
    _download_config(reference, WEIGHTS_FILE, offline=offline)
    return weights


def _download_config(reference: HubReference, weights: str, *, offline: bool) -> None:
    """The config.json beside a repository's weights, if there is one.

    Offline, that the cache has none means nothing if it was never asked for: then the header alone may make other
    videos, and only who sets HF_HUB_OFFLINE has asked for what there is.
    """
    from huggingface_hub import constants, errors

    file = str(PurePosixPath(weights).with_name(CONFIG_FILE))
    try:
        _download(reference, file, offline=offline)
    except errors.LocalEntryNotFoundError as error:
        if not constants.HF_HUB_OFFLINE and _cached(reference, file) is None:
            raise _out_of_reach(replace(reference, file=file)) from error
    except errors.EntryNotFoundError:
        pass  # the header says everything


def _download(reference: HubReference, file: str, *, offline: bool) -> Path:
    """One file of a repository; with an index come its shards."""
    path = _file(reference, file, offline=offline)
    if file.endswith(".index.json"):
        weight_map: Any = read_json(path).get("weight_map")
        values = weight_map.values() if isinstance(weight_map, dict) else ()
        # Those that would leave the folder are not even asked for; reading the checkpoint refuses them.
        for name in sorted(set(filter(is_bare_name, values))):
            _file(reference, str(PurePosixPath(file).with_name(name)), offline=offline)
    return path


def _file(reference: HubReference, file: str, *, offline: bool) -> Path:
    """A file's copy in the cache, fetched if need be and not offline.

    Raises:
        MPVideoError: the disk is full, a path leads out of the cache, the connection breaks.
        Exception: those of the library that say what the hub answered.
    """
    from huggingface_hub import errors, hf_hub_download

    # What its network library raises comes through, whichever that is; it is known by this name there.
    network_error: type[Exception] = getattr(errors, "HTTPError", OSError)
    try:
        return Path(hf_hub_download(reference.repo, file, revision=reference.revision, local_files_only=offline))
    except (errors.EntryNotFoundError, errors.HfHubHTTPError, errors.FileMetadataError, errors.HFValidationError):
        raise
    except (OSError, ValueError, network_error) as error:
        raise MPVideoError(
            f"{printable(reference)} cannot be fetched: {printable(reason(error), 300)}",
            hint="Check the network and the disk, then run it again; what is there already stays in the cache.",
        ) from error


def _explain(reference: HubReference, error: Exception) -> NoReturn:
    """Raises the error for what the hub answered."""
    from huggingface_hub import errors

    shown = printable(reference)
    if isinstance(error, errors.GatedRepoError):
        raise CheckpointError(
            f"{shown} is given out only to those whom its owner lets in",
            hint="Ask for access on its page, then log in with `hf auth login`.",
        ) from error
    if isinstance(error, errors.RepositoryNotFoundError):
        raise CheckpointError(
            f"{shown} does not exist on the hub, or is private",
            hint="Check the name; for a private one log in with `hf auth login`.",
        ) from error
    if isinstance(error, errors.RevisionNotFoundError):
        raise CheckpointError(
            f"{shown}: the repository has no revision {printable(repr(reference.revision))}",
            hint="Give a branch, a tag or a commit.",
        ) from error
    if isinstance(error, errors.EntryNotFoundError):
        raise CheckpointError(f"{shown}: the repository has no such file", hint="Check the file's name.") from error
    status = getattr(getattr(error, "response", None), "status_code", "an error")
    raise MPVideoError(f"{shown} cannot be fetched: the hub answers {status}", hint="Try again later.") from error


def _out_of_reach(reference: HubReference) -> MPVideoError:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return MPVideoError(
            f"{printable(reference)} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it",
            hint="Unset HF_HUB_OFFLINE, or run once with it unset.",
        )
    return MPVideoError(
        f"{printable(reference)} is not in the cache, and the hub cannot be reached",
        hint=f"Check the network and HF_ENDPOINT (now {printable(constants.ENDPOINT)}).",
    )
