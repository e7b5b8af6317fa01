"""torch.compile for the inference form, block by block, and CUDA graphs of its whole evaluations.

Blocks of the same shape share their code, so that a network takes as long to compile as its different blocks do. What
cannot be compiled runs as it is.
"""

import warnings
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

_MOST_SHAPES = 256
"""How often one function may be compiled anew: a network has a dozen different blocks, for each size of a batch."""


@cache
def compiler_problem(device: str) -> str | None:
    """Why torch.compile cannot be used on a device, in a clause; None if it can.

    It compiles something small: some seconds, once in a process.
    """

    def small(x: Tensor) -> Tensor:
        return F.silu(x) * 2

    try:
        torch.compile(small)(torch.ones(64, device=device))
    except (RuntimeError, ImportError, OSError) as error:  # no compiler, no Triton, a system that is not supported
        return _first_line(error)
    return None


def _first_line(error: Exception) -> str:
    words = str(getattr(error, "inner_exception", error)).strip()  # torch wraps what its compilers raise
    return words.splitlines()[0] if words else type(error).__name__


class CompiledBlocks:
    """A function of a block and its tensors, compiled for each kind of block when it first comes; by itself if not.

    Args:
        function: the block's call, (block, x, scale) -> Tensor.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        import torch._dynamo  # noqa: PLC0415 - takes more than a second

        self._dynamo = torch._dynamo
        self._function = function
        self._compiled = torch.compile(function, dynamic=False, fullgraph=True)
        self._fails = False

    def __call__(self, block: object, x: Tensor, scale: Tensor) -> Tensor:
        """Calls it; warns when it cannot be compiled, once."""
        if not self._fails:
            try:
                with self._dynamo.config.patch(recompile_limit=_MOST_SHAPES):
                    return self._compiled(block, x, scale)
            except self._dynamo.exc.TorchDynamoException as error:
                self._fails = True
                warnings.warn(f"torch.compile failed, the network runs as it is: {_first_line(error)}", stacklevel=2)
        return self._function(block, x, scale)


class CudaGraph:
    """A function of tensors on a GPU, recorded once for each shape of them and replayed: its kernels start at once.

    Only the last shape's recording is kept, since each holds all its memory. The function must neither wait for the GPU
    nor change its arguments.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._shapes: list[tuple[torch.Size, torch.dtype]] = []
        self._inputs: list[Tensor] = []
        self._graph: torch.cuda.CUDAGraph | None = None
        self._output: Tensor | None = None

    def __call__(self, *tensors: Tensor) -> Tensor:
        """Calls it."""
        shapes = [(tensor.shape, tensor.dtype) for tensor in tensors]
        if self._graph is None or self._output is None or shapes != self._shapes:
            self._graph = self._output = None
            self._inputs, self._shapes = [tensor.clone() for tensor in tensors], shapes
            self._graph, self._output = self._record()
        for own, given in zip(self._inputs, tensors, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._output.clone()

    def _record(self) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        # What is done at the first calls alone, compiling and choosing algorithms, must be over before the recording.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # The thread that writes files uses the device too, which must not end the recording.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            output = self._function(*self._inputs)
        return graph, output
