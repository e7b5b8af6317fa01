"""What a file is that is not safetensors, told from its first bytes."""

import re

from mpvideo.errors import CheckpointError

SNIFFED = 512
"""How many of its first bytes are looked at."""

FORMAT_MAX_BYTES = 100_000_000
"""Longest header in the format, as its reference implementation has it: what announces more is something else."""

_DOWNLOAD = "The download saved a page instead of the file: use the direct download link."
_PICKLE = (
    "`mpvideo convert FILE model.safetensors` makes a checkpoint of the tensors in it. Pickles can run code: it "
    "runs none."
)
_UNPACK = "Unpack it and give the .safetensors file inside."
_DAMAGED = f"A header has at most {FORMAT_MAX_BYTES:,} bytes: the file is damaged, download or copy it again."
_WRONG = "Give the .safetensors file of the model."

_SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs.github.com/spec/", "a git-lfs pointer", "Fetch the real file with `git lfs pull`."),
    (0, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "an old PyTorch .pt file (a pickle)", _PICKLE),
    *((0, bytes((0x80, protocol)), "a Python pickle", _PICKLE) for protocol in range(2, 6)),
    (0, b"\x1f\x8b", "a gzip archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\xfd7zXZ\x00", "an xz archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"GGUF", "a GGUF file", _WRONG),
    (0, b"\x89HDF\r\n", "an HDF5 file", _WRONG),
    (0, b"\x93NUMPY", "a NumPy .npy file", _WRONG),
    (0, b"\x89PNG", "a PNG image", _WRONG),
    (0, b"GIF8", "a GIF image", _WRONG),
    (0, b"\xff\xd8\xff", "a JPEG image", _WRONG),
    (4, b"ftyp", "an MP4 video", _WRONG),
)


def not_safetensors(start: bytes, shown: str) -> CheckpointError:
    """The error for a file that cannot be safetensors.

    Args:
        start: its first `SNIFFED` bytes, or all of a shorter file.
        shown: its path, printable.
    """
    what, hint = _guess(start)
    return CheckpointError(f"{shown} must be a safetensors file, but {what}", hint=hint)


def _guess(start: bytes) -> tuple[str, str]:
    if not start:
        return "is empty", "Download or copy it again."
    for offset, magic, what, hint in _SIGNATURES:
        if start[offset : offset + len(magic)] == magic:
            return f"is {what}", hint
    if start.startswith(b"PK\x03\x04"):
        if b"data.pkl" in start or b"byteorder" in start:
            return "is a PyTorch .pt file (a zip with a pickle inside)", _PICKLE
        return ("is a NumPy .npz file", _WRONG) if b".npy" in start else ("is a zip archive", _UNPACK)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<!--")):
        return "is an HTML page", _DOWNLOAD
    if text.startswith(b"<"):
        return "is an XML document", _DOWNLOAD
    if re.match(rb"[{\[]\s*[\"{}\[\]\d-]", text):
        return "is a JSON file", "Give the .safetensors file, or the folder that holds it and its config.json."
    if not start.strip(b"\0"):
        return "starts with nothing but zeros", "Probably an unfinished download: get it again."
    if len(start) < 9:
        return f"is too short: {len(start)} bytes", "Probably an unfinished download: get it again."
    if start[8:9] == b"{":
        return f"its first eight bytes announce a header of {int.from_bytes(start[:8], 'little'):,} bytes", _DAMAGED
    if all(byte in b"\t\n\r\f" or byte >= 32 for byte in start) and _is_text(start):
        return "is a text file", _WRONG
    return "its first bytes are of no format known here", _WRONG


def _is_text(start: bytes) -> bool:
    # The sniffed bytes may end in the middle of a character of up to four bytes.
    for cut in range(4):
        try:
            start[: len(start) - cut].decode()
        except UnicodeDecodeError:
            continue
        return True
    return False
