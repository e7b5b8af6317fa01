"""Video files: writing frames in many formats, reading them back, and reading how a video was made."""

from mpvideo.formats import SUFFIXES, Encoding, enlargement, warnings_about
from mpvideo.video.contact_sheet import SheetWriter
from mpvideo.video.containers import read_index
from mpvideo.video.destination import check_destination
from mpvideo.video.encode import VideoWriter
from mpvideo.video.grid import GridWriter
from mpvideo.video.index import VideoIndex
from mpvideo.video.metadata import read_record
from mpvideo.video.reading import read_frames

__all__ = [
    "SUFFIXES",
    "Encoding",
    "GridWriter",
    "SheetWriter",
    "VideoIndex",
    "VideoWriter",
    "check_destination",
    "enlargement",
    "read_frames",
    "read_index",
    "read_record",
    "warnings_about",
]
