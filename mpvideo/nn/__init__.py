"""The network: KarrasUnet3D and the magnitude-preserving layers it is made of."""

from mpvideo.nn.inference import InferenceUnet3D
from mpvideo.nn.layers import MPAttention, MPConv3d, MPFeedForward, MPLinear
from mpvideo.nn.transformer import MPImageTransformer
from mpvideo.nn.unet3d import KarrasUnet3D

__all__ = [
    "InferenceUnet3D",
    "KarrasUnet3D",
    "MPAttention",
    "MPConv3d",
    "MPFeedForward",
    "MPImageTransformer",
    "MPLinear",
]
