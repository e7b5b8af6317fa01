"""The record of how a video was made survives in the file, whatever is in it; damaged files are named as such."""

import os
import struct
import tempfile
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from mpvideo.errors import MPVideoError, UsageError
from mpvideo.video import read_frames, read_record
from mpvideo.video.gif import delays, finish_gif, walk_gif
from mpvideo.video.metadata import ffmetadata
from mpvideo.video.mp4 import read_mp4
from tests.video.conftest import colourful, save

TEXTS = st.text(st.one_of(st.characters(), st.sampled_from("=;#\\\n\r\t\0\"'{}[]<>%é狗🐕")), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
RECORDS = st.dictionaries(TEXTS, VALUES, max_size=5)
SUFFIXES = pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".apng", ".mkv", ".npy", ".safetensors"])


@SUFFIXES
@given(record=RECORDS)
@example(record={})
@example(record={"=;#\\\n": "=;#\\\n\\n;\r\n#=", "": "\ud800 a lone surrogate"})
@example(record={"long": "🐕" * 20_000})
@settings(max_examples=12, deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_any_record_comes_back(suffix: str, record: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert read_record(save(Path(folder) / f"a{suffix}", colourful(1, 16), record=record)) == record


@SUFFIXES
def test_no_record(tmp_path: Path, suffix: str) -> None:
    assert read_record(save(tmp_path / f"a{suffix}", colourful())) is None


@SUFFIXES
@pytest.mark.parametrize("record", [{"x": float("nan")}, {"x": object()}])
def test_what_json_cannot_hold_is_refused_before_any_work(tmp_path: Path, suffix: str, record: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        save(tmp_path / f"a{suffix}", colourful(), record=record)
    assert list(tmp_path.iterdir()) == []


def test_other_programs_find_the_comment(tmp_path: Path) -> None:
    path = save(tmp_path / "a.gif", colourful(), record={"class": "golden dog"})
    with Image.open(path) as image:
        assert image.info["comment"] == b'{"class": "golden dog"}'
        assert image.info["loop"] == 0
        assert image.n_frames == 6
    path = save(tmp_path / "a.mp4", colourful(), record={"class": "golden dog"})
    assert b'\xa9cmt\0\0\0\x27data\0\0\0\1\0\0\0\0{"class": "golden dog"}' in path.read_bytes()


@pytest.mark.parametrize("length", [0, 1, 254, 255, 256, 510, 511, 5000])
def test_gif_comments_of_any_length(tmp_path: Path, length: int) -> None:
    plain = save(tmp_path / "a.gif", colourful()).read_bytes()
    comment = (b"0123456789" * 500)[:length]
    data = finish_gif(plain, delays=[7] * 6, comment=comment, see_through=False)
    assert walk_gif(data).comment == comment
    (tmp_path / "b.gif").write_bytes(data)
    with Image.open(tmp_path / "b.gif") as image:
        assert image.info.get("comment", b"") == comment
        assert image.info["duration"] == 70


def test_a_comment_of_somebody_else_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    for comment in (b"made with GIMP", b"[1, 2]", b"\xff\xfe", b"[" * 100_000):
        Image.new("P", (8, 8)).save(path, comment=comment)
        assert walk_gif(path.read_bytes()).comment == comment
        assert read_record(path) is None


def test_a_comment_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    Image.new("P", (8, 8)).save(path, comment=b'{"mpvideo": [' + b"{}," * 300_000 + b"0]}")
    with pytest.raises(MPVideoError, match="its record must hold at most 250,000 values"):
        read_record(path)


def pack(header: bytes) -> bytes:
    """A .safetensors file with this header and no data."""
    return struct.pack("<Q", len(header)) + header


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(pack(b'{"a": [' + b"{}," * 300_000 + b"0]}"))
    with pytest.raises(MPVideoError, match="its header must hold at most 250,000 values"):
        read_record(path)
    path.write_bytes(struct.pack("<Q", 1 << 26))
    os.truncate(path, 1 << 27)
    with pytest.raises(MPVideoError, match="its header is damaged"):
        read_record(path)


@pytest.mark.parametrize("shape", ["5", '"abcd"', "null", "true", "[1, 2, 2, true]", "[1, 2, 2, 3.0]", "{}"])
def test_a_shape_that_is_none_is_named(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(pack(b'{"frames": {"dtype": "U8", "shape": %s}}' % shape.encode()) + bytes(99))
    with pytest.raises(MPVideoError, match="its header is damaged"):
        read_record(path)


def element(kind: int, payload: bytes) -> bytes:
    """An element of a Matroska file, its size in eight bytes."""
    return kind.to_bytes((kind.bit_length() + 7) // 8) + (1 << 56 | len(payload)).to_bytes(8) + payload


def matroska(width: bytes, *, others: bytes = b"") -> bytes:
    track = element(0xAE, element(0x83, b"\1") + element(0xE0, element(0xB0, width) + element(0xBA, b"\x08")) + others)
    return element(0x1A45DFA3, b"") + element(0x18538067, element(0x1654AE6B, track))


def test_numbers_of_a_webm_have_eight_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    path.write_bytes(matroska(b"\x08".rjust(8, b"\0")))
    assert read_record(path) is None
    path.write_bytes(matroska(b"\xff" * 2_500))
    with pytest.raises(MPVideoError, match="it has a number of 2,500 bytes, of which there must be at most 8"):
        read_record(path)


def test_a_webm_of_very_many_elements_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    path.write_bytes(matroska(b"\x08", others=b"\xec\x80" * 100_001))
    with pytest.raises(MPVideoError, match="it has an element with more than 100,000 elements"):
        read_record(path)


@pytest.mark.parametrize(
    ("name", "start", "words"),
    [
        ("a.gif", b"MZ", "it does not begin like a GIF file"),
        ("a.mp4", struct.pack(">I4s", 1 << 28, b"moov"), "its index must have at most 67,108,864 bytes"),
        ("a.webm", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff\x16\x54\xae\x6b\x14\0\0\0", "its index is damaged"),
    ],
)
def test_a_long_file_is_not_read_whole(tmp_path: Path, name: str, start: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(start)
    os.truncate(path, 1 << 30)  # without taking room on the disk
    tracemalloc.start()
    try:
        with pytest.raises(MPVideoError, match=words):
            read_record(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("fps", [8, Fraction(25, 2), Fraction(24000, 1001), 60, 240, Fraction(1, 100)])
def test_delays_never_drift(fps: Fraction) -> None:
    listed = delays(1000, Fraction(fps))
    total = 0
    for index, delay in enumerate(listed):
        total += delay
        assert abs(total - Fraction(100 * (index + 1)) / fps) <= Fraction(1, 2)
    assert max(listed) - min(listed) <= 1


def test_delays_for_eight_frames_a_second() -> None:
    assert delays(4, Fraction(8)) == [13, 12, 13, 12]


def test_ffmetadata_escapes() -> None:
    assert ffmetadata(None) == ";FFMETADATA1\n"
    assert ffmetadata("a=b;c#d\\e\nf") == ";FFMETADATA1\ncomment=a\\=b\\;c\\#d\\\\e\\\nf\n"


def test_mp4_index(tmp_path: Path) -> None:
    index = read_mp4(save(tmp_path / "a.mp4", colourful(5), fps=Fraction(24000, 1001), scale=2, record={"a": 1}))
    assert (index.width, index.height, index.frames) == (64, 64, 5)
    assert index.rate == Fraction(24000, 1001)
    assert index.comment == '{"a": 1}'


@SUFFIXES
def test_files_cut_anywhere_are_named(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", colourful(2, 8), record={"a": 1})
    # The frames of a .npy are a whole file by themselves, one without a record.
    whole = 128 + 2 * 8 * 8 * 3 if suffix == ".npy" else None
    for end in reversed(range(path.stat().st_size)):
        os.truncate(path, end)
        if end == whole:
            assert read_record(path) is None
            continue
        with pytest.raises(MPVideoError) as caught:
            read_record(path)
        assert caught.value.message.startswith(f"{path} cannot be read as a video: ")


def test_a_gif_without_room_for_its_delay_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(b"GIF89a\1\0\1\0\0\0\0\x21\xf9\0\x3b")
    for read in (read_record, read_frames):
        with pytest.raises(MPVideoError, match="cannot be read as a video: the control block at byte 13 is too short"):
            read(path)


def test_frames_are_not_made_up_for_a_file_that_is_cut_short(tmp_path: Path) -> None:
    for suffix in (".mp4", ".webm", ".gif", ".apng", ".npy", ".safetensors"):
        path = save(tmp_path / f"a{suffix}", colourful(), record={"a": 1})
        for end in (path.stat().st_size - 1, path.stat().st_size // 2):
            os.truncate(path, end)
            with pytest.raises(MPVideoError, match=rf"{path} cannot be read as a video: "):
                read_frames(path)


@pytest.mark.timeout(60)
def test_damaged_bytes_never_escape_as_other_errors(tmp_path: Path) -> None:
    for suffix in (".mp4", ".webm", ".gif", ".apng", ".npy", ".safetensors"):
        whole = save(tmp_path / f"a{suffix}", colourful(2, 16), record={"a": 1}).read_bytes()
        path = tmp_path / f"hurt{suffix}"
        for at in range(0, min(len(whole), 1500), 3):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
            try:
                record = read_record(path)
            except MPVideoError:
                continue
            assert record is None or isinstance(record, dict)


def test_pictures_beyond_what_pillow_opens_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [save(tmp_path / f"a{suffix}", colourful()) for suffix in (".gif", ".apng")]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for path in paths:
        with pytest.raises(MPVideoError, match="cannot be read as a video: it is damaged"):
            read_frames(path)


_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta", b"ilst", b"\xa9cmt")


def box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def with_one_box_cut(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every way to empty, shorten or halve the payload of one box at any depth, sizes kept right; and its kind."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        before, payload, after = data[:at], data[at + 8 : at + size], data[at + size :]
        for kept in {0, 1, 4, 13, len(payload) // 2}:
            if kept < len(payload) and kind != b"mdat":
                yield kind, before + box(kind, payload[:kept]) + after
        if kind in _CONTAINERS:
            for inner, changed in with_one_box_cut(payload):
                yield inner, before + box(kind, changed) + after
        at += size


def test_boxes_cut_short_are_named(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.mp4", colourful(2, 16), record={"a": 1}).read_bytes()
    path = tmp_path / "cut.mp4"
    seen = set()
    for kind, data in with_one_box_cut(whole):
        path.write_bytes(data)
        try:
            record = read_record(path)
        except MPVideoError as error:
            seen.add(kind)
            assert error.message.startswith(f"{path} cannot be read as a video: ")
        else:
            assert record in (None, {"a": 1})
    assert {b"moov", b"trak", b"mdhd", b"hdlr", b"stsd", b"stsz", b"stts"} <= seen


def test_an_empty_media_header_is_named(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.mp4", colourful(2, 16)).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(next(data for kind, data in with_one_box_cut(whole) if kind == b"mdhd"))
    for read in (read_record, read_frames):
        with pytest.raises(MPVideoError, match="cannot be read as a video: its index is damaged"):
            read(path)


def test_boxes_of_absurd_sizes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    for size in (2**40, 2**62, 2**63, 2**64 - 1):
        path.write_bytes(struct.pack(">I4sQ", 1, b"free", size) * 4)
        with pytest.raises(MPVideoError, match="cannot be read as a video: it has no index"):
            read_record(path)


@SUFFIXES
@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>" * 50, struct.pack(">I4s", 0, b"mdat") + bytes(100)])
def test_other_files_are_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    for read in (read_record, read_frames):
        with pytest.raises(MPVideoError, match="cannot be read as a video: "):
            read(path)


@SUFFIXES
def test_missing_files_folders_and_other_suffixes(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"folder{suffix}").mkdir()
    for read in (read_record, read_frames):
        with pytest.raises(MPVideoError, match="no such file or directory"):
            read(tmp_path / f"a{suffix}")
        with pytest.raises(MPVideoError, match="is a directory"):
            read(tmp_path / f"folder{suffix}")
        with pytest.raises(UsageError, match=r"must end in \.mp4, \.webm, .*, got 'a\.avi'"):
            read(tmp_path / "a.avi")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """Opening a pipe would wait for its writer for ever."""
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(MPVideoError, match="must be a regular file"):
        read_record(tmp_path / "a.mp4")
