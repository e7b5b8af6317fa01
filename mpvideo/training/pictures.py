"""The pictures of a training run."""

from mpvideo.training.contact_sheet import contact_sheet
from mpvideo.training.loss_curve import loss_curve

__all__ = ["contact_sheet", "loss_curve"]
