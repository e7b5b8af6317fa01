"""Compiled blocks and recorded evaluations. Dynamo's own backend stands in for the code that takes minutes to make."""

import contextlib
import warnings
from functools import partial

import pytest
import torch

from mpvideo.nn.compilation import CompiledBlocks, CudaGraph, compiler_problem
from tests.networks import randn, tiny_network
from tests.nn.test_inference import inference_form


@pytest.fixture(autouse=True)
def forget():
    compiler_problem.cache_clear()
    torch.compiler.reset()
    yield
    compiler_problem.cache_clear()
    torch.compiler.reset()


@pytest.fixture
def traced(monkeypatch):
    """Blocks become graphs, which must be whole, and are run as they are."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


def test_compiled_is_the_same(traced, dtype=torch.bfloat16):
    net = tiny_network(dim=16, factorize_space_time_attn=True, attn_res=(4,))
    plain, compiled = inference_form(net, dtype), inference_form(net, dtype, compiled=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for batch in (2, 1):
            x, time = randn(batch, 2, 4, 8, 8).to(dtype), torch.full((batch,), 0.25)
            expected = plain(x, time, class_labels=torch.arange(batch)).float()
            got = compiled(x, time, class_labels=torch.arange(batch)).float()
            assert (got - expected).norm() <= 2e-2 * expected.norm()


def test_blocks_of_one_shape_share_their_code(monkeypatch):
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    net = inference_form(tiny_network(num_blocks_per_stage=2, num_downsamples=1, downsample_types="all"), compiled=True)
    net(randn(1, 2, 4, 8, 8), torch.zeros(1), class_labels=torch.tensor([1]))
    kinds = {(b.plan.kind, b.plan.dim_in, b.plan.dim_out, b.plan.factors, b.plan.attention, b.plan.positions)
             for b in net._blocks}  # fmt: skip
    assert len(net._blocks) > len(graphs) == len(kinds)


def test_what_cannot_be_compiled_runs_and_is_told_once(monkeypatch):
    def failing(*_):
        raise RuntimeError("this compiler is broken\nin every way")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=failing))
    net = tiny_network(num_downsamples=0, downsample_types="all")
    x, given = randn(1, 2, 4, 8, 8), {"time": torch.zeros(1), "class_labels": torch.tensor([1])}
    expected, compiled = inference_form(net)(x, **given), inference_form(net, compiled=True)
    with pytest.warns(UserWarning, match=r"torch\.compile failed, the network runs as it is") as told:
        for _ in range(2):
            torch.testing.assert_close(compiled(x, **given), expected)
    assert len(told) == 1 and "this compiler is broken" in str(told[0].message)


def test_running_out_of_memory_is_no_failure_to_compile():
    def full(*_):
        raise torch.OutOfMemoryError("out of memory")

    blocks = CompiledBlocks(full)
    blocks._compiled = full
    with pytest.raises(torch.OutOfMemoryError):
        blocks(None, torch.zeros(1), torch.zeros(1))


@pytest.mark.parametrize(
    "error", [RuntimeError("no C++ compiler\nmore"), ImportError("no C++ compiler"), OSError("no C++ compiler")]
)
def test_no_compiler(monkeypatch, error):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(torch, "compile", failing)
    assert compiler_problem("cpu") == "no C++ compiler"


def test_a_compiler(traced):
    assert compiler_problem("cpu") is None


class Recording:
    """A CUDA graph as it seems from outside: what was recorded is done again, on the same tensors."""

    work = None

    def replay(self):
        inputs, function, output = self.work
        output.copy_(function(*inputs))


def test_a_recording_sees_new_inputs_and_shapes(monkeypatch):
    """The real ones need a GPU; here, that inputs are copied in, results out, and other shapes recorded anew."""

    class Stream:
        def wait_stream(self, other):
            pass

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recording)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, **how: contextlib.nullcontext())
    monkeypatch.setattr(CudaGraph, "_record", with_work(CudaGraph._record))
    run = CudaGraph(lambda a, b: a * 2 + b)
    a, b = randn(3), randn(3, seed=1)
    first = run(a, b)
    second = run(b, a)
    torch.testing.assert_close(first, a * 2 + b)
    torch.testing.assert_close(second, b * 2 + a)
    torch.testing.assert_close(run(randn(5), randn(5)), randn(5) * 3)


def with_work(record):
    def recorded(self):
        graph, output = record(self)
        graph.work = self._inputs, self._function, output
        return graph, output

    return recorded
