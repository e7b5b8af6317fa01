"""Operations with gradients of their own."""

from typing import Any

import torch


class Function(torch.autograd.Function):
    """torch.autograd.Function with `setup_context`, without what that costs in each call.

    torch looks up the signature of `forward` each time, for arguments that have defaults: a fifth of a training step of
    a network so narrow that its arithmetic is nothing (torch 2.13.0).
    """

    @classmethod
    def apply(cls, *arguments: Any) -> Any:
        """As torch's, but for arguments with defaults and for tensors that have outlived a transform of torch.func."""
        if torch._C._are_functorch_transforms_active():
            return super().apply(*arguments)  # type: ignore[no-untyped-call]
        return super(torch.autograd.Function, cls).apply(*arguments)  # type: ignore[misc]
