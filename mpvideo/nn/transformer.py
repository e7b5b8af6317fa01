"""The magnitude-preserving transformer that the package denoising-diffusion-pytorch publishes beside its network."""

from torch import Tensor, nn

from mpvideo.nn.layers import MPAttention, MPFeedForward


class MPImageTransformer(nn.Module):
    """Attention and feed-forward layers in turn: (B, dim, T, H, W) -> the same shape.

    Args:
        dim: channels.
        depth: number of pairs of layers.
        dim_head, heads: width and number of attention heads.
        num_mem_kv: learned key/value pairs of each attention.
        ff_mult: width of the feed-forward's hidden layer, in `dim`.
        attn_flash: accepted for the published package's sake; it has no effect on values.
        residual_mp_sum_t: weight of the input in the residual sums.
    """

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        dim_head: int = 64,
        heads: int = 8,
        num_mem_kv: int = 4,
        ff_mult: int = 4,
        attn_flash: bool = False,
        residual_mp_sum_t: float = 0.3,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.layers = nn.ModuleList(
            nn.Sequential(
                MPAttention(dim, heads=heads, dim_head=dim_head, balance=residual_mp_sum_t, num_memory=num_mem_kv),
                MPFeedForward(dim, mult=ff_mult, balance=residual_mp_sum_t),
            )
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Applies all layers.

        Raises:
            ValueError: x is not (B, dim, T, H, W).
        """
        if x.ndim != 5 or x.shape[1] != self.dim:
            raise ValueError(f"x must have the shape (B, {self.dim}, T, H, W), got {tuple(x.shape)}")
        for layer in self.layers:
            x = layer(x)
        return x
