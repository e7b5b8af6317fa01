import pytest
import torch

from mpvideo.nn import MPAttention, MPFeedForward, MPImageTransformer
from tests.networks import randn


def small(**overrides) -> MPImageTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MPImageTransformer(**{"dim": 6, "depth": 2, "dim_head": 4, "heads": 2, **overrides}).eval()


def test_layers_in_turn():
    """Attention before feed-forward, depth times, in the order of the list."""
    net, x = small(), randn(2, 6, 3, 2, 2)
    y = x
    for attention, feed_forward in net.layers:
        assert isinstance(attention, MPAttention)
        assert isinstance(feed_forward, MPFeedForward)
        y = feed_forward(attention(y))
    assert len(net.layers) == 2
    assert torch.equal(net(x), y)


def test_arguments_reach_the_layers():
    net = small(num_mem_kv=3, ff_mult=5, residual_mp_sum_t=0.7)
    attention, feed_forward = net.layers[0]
    assert attention.mem_kv.shape == (2, 2, 3, 4)
    assert feed_forward.net[1].weight.shape == (30, 6, 1, 1, 1)
    assert attention.balance == feed_forward.balance == 0.7


def test_no_layers_change_nothing():
    x = randn(1, 6, 2, 2, 2)
    assert torch.equal(small(depth=0)(x), x)


def test_residual_balance_of_one_changes_nothing():
    x = randn(1, 6, 2, 2, 2)
    torch.testing.assert_close(small(residual_mp_sum_t=1.0)(x), x)


def test_attn_flash_has_no_effect():
    x = randn(1, 6, 2, 2, 2)
    assert torch.equal(small(attn_flash=True)(x), small()(x))


@pytest.mark.parametrize("shape", [(1, 5, 2, 2, 2), (1, 6, 2, 2), (6, 2, 2, 2)])
def test_misshapen_input(shape):
    with pytest.raises(ValueError, match=r"x must have the shape \(B, 6, T, H, W\), got \("):
        small()(randn(*shape))
