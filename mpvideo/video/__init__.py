"""Video files: writing frames to MP4 and GIF, reading them back, and reading how a video was made."""

from mpvideo.video.decode import read_frames
from mpvideo.video.destination import SUFFIXES, check_destination, suffix_of
from mpvideo.video.encode import Encoding, VideoWriter, enlargement, warnings_about
from mpvideo.video.metadata import read_record

__all__ = [
    "SUFFIXES",
    "Encoding",
    "VideoWriter",
    "check_destination",
    "enlargement",
    "read_frames",
    "read_record",
    "suffix_of",
    "warnings_about",
]
