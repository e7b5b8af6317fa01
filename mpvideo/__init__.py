"""mpvideo: turn a KarrasUnet3D checkpoint into finished videos."""

__version__ = "0.1.0"
