import math
from itertools import product

import pytest
import torch

from mpvideo.nn import KarrasUnet3D, MPLinear
from mpvideo.training.factored import FactoredClassEmbedding, finished_weights, full_table
from tests.networks import TINY, TINY_SHAPE, randn, tiny_network

SIZES = (2, 3, 4)
NUM_CLASSES = 24


@pytest.fixture
def embedding() -> FactoredClassEmbedding:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return FactoredClassEmbedding(SIZES, 6).eval()


def test_rows_of_the_table_have_magnitude_one(embedding):
    table = embedding.table().detach()
    assert table.shape == (6, NUM_CLASSES)
    torch.testing.assert_close(table.square().mean(1), torch.ones(6))


def test_every_class_is_the_sum_of_its_factors(embedding):
    """The slowest factor first: class 23 is (1, 2, 3). Up to the scale of each row."""
    first, second, third = embedding.weight.detach().split(SIZES, dim=1)
    sums = [first[:, i] + second[:, j] + third[:, k] for i, j, k in product(*map(range, SIZES))]
    full = torch.stack(sums, dim=1)
    torch.testing.assert_close(embedding.table().detach(), full / full.square().mean(1, keepdim=True).sqrt())


def test_is_the_full_layer_with_its_table(embedding):
    full = MPLinear(NUM_CLASSES, 6).eval()
    full.weight.data.copy_(embedding.table())
    for rows in (torch.eye(NUM_CLASSES), torch.zeros(1, NUM_CLASSES), randn(5, NUM_CLASSES)):
        scaled = rows * math.sqrt(NUM_CLASSES)
        torch.testing.assert_close(embedding(scaled), full(scaled))
    assert embedding(torch.eye(NUM_CLASSES).bfloat16()).dtype == torch.bfloat16


def test_training_scales_the_weight_and_not_the_result(embedding):
    embedding.weight.data.mul_(3)
    x, before = randn(5, NUM_CLASSES), embedding.weight.detach().clone()
    out = embedding(x).detach()
    assert torch.equal(embedding.weight.detach(), before)
    torch.testing.assert_close(embedding.train()(x).detach(), out)
    full = (embedding.weight @ embedding.design).detach()
    torch.testing.assert_close(full.square().mean(1), torch.ones(6))
    torch.testing.assert_close(torch.cosine_similarity(embedding.weight.detach(), before), torch.ones(6))


def test_design_is_not_part_of_a_snapshot(embedding):
    assert list(embedding.state_dict()) == ["weight"]
    assert embedding.weight.shape == (6, sum(SIZES))


def test_magnitude_at_the_start():
    """Before any scaling, entries of the table are standard normal: independent sums of three."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        embedding = FactoredClassEmbedding(SIZES, 4000)
    raw = (embedding.weight @ embedding.design).detach()
    assert raw.square().mean().item() == pytest.approx(1, abs=0.03)


def test_full_table_of_a_bare_weight(embedding):
    assert torch.equal(full_table(embedding.weight.detach(), SIZES), embedding.table().detach())
    assert full_table(embedding.weight.detach().double(), SIZES).dtype == torch.float64


# The result


def test_finished_weights_of_a_plain_network():
    net = tiny_network()
    weights = finished_weights(net)
    assert weights.keys() == net.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(tensor.requires_grad for tensor in weights.values())


def test_finished_weights_of_factors_fit_a_plain_network():
    net, plain = tiny_network(), KarrasUnet3D(**TINY).eval()
    with torch.random.fork_rng():
        torch.manual_seed(7)
        net.to_class_emb = FactoredClassEmbedding((5, 1), 4 * TINY["dim"]).eval()
    weights = finished_weights(net)
    assert not any(tensor.requires_grad for tensor in weights.values())
    plain.load_state_dict(weights)
    x, time = randn(5, *TINY_SHAPE), torch.linspace(-1, 1, 5)
    with torch.no_grad():
        out = plain(x, time, class_labels=torch.arange(5))
        torch.testing.assert_close(out, net(x, time, class_labels=torch.arange(5)))
    assert (out[1:] - out[:-1]).abs().max() > 0.1
