"""What training minimises: EDM's denoising loss under EDM2's learned weight over noise levels."""

import torch
from torch import Tensor, nn

from mpvideo.diffusion import preconditioning
from mpvideo.nn import KarrasUnet3D
from mpvideo.training.loss import UncertaintyWeight, weigh


class Objective(nn.Module):
    """The network together with the learned uncertainty of its loss; one module, as DistributedDataParallel wants it.

    Args:
        net: the raw network, on the device to train on. On a CPU its kernels are laid out channels last, in place:
            convolutions there want them so, or reorder them in each step.
        sigma_data: standard deviation of the clean tensors.
    """

    def __init__(self, net: KarrasUnet3D, sigma_data: float) -> None:
        super().__init__()
        for parameter in net.parameters():
            if parameter.ndim == 5 and parameter.device.type == "cpu":
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
        self.net = net
        self.sigma_data = sigma_data
        self.uncertainty = UncertaintyWeight()

    def forward(
        self,
        clean: Tensor,
        noise: Tensor,
        sigma: Tensor,
        class_labels: Tensor | None,
        *,
        dtype: torch.dtype = torch.float32,
        self_conditioned: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """The mean of EDM2's eq. 21 over samples, to be differentiated, and the plain loss of each.

        The loss of a sample is weighted so that an untrained network has about 1 at every noise level: EDM's weight
        lambda(sigma) * c_out**2 is 1 (EDM, table 1), so it is the squared error of the raw network against
        (clean - c_skip * noisy) / c_out = c_in * (sigma / sigma_data * clean - sigma_data * noise).

        Args:
            clean: (B, C, T, H, W) float32, standard deviation sigma_data.
            noise: standard normal, like clean.
            sigma: (B,) noise levels, float32.
            class_labels: (B, num_classes) weights, zeros where the label is dropped; None for a network without
                classes.
            dtype: what the network computes in.
            self_conditioned: whether the network is first asked for an estimate, which it is then given.

        Returns:
            The mean, and the losses (B,), float32.
        """
        column = sigma.view(-1, *(1,) * (clean.ndim - 1))
        c_skip, c_out, c_in, c_noise = preconditioning(column, self.sigma_data)
        noisy = clean + column * noise
        target = c_in * (column / self.sigma_data * clean - self.sigma_data * noise)
        x, c_noise = (c_in * noisy).to(dtype), c_noise.flatten()
        estimate = None
        if self_conditioned:
            with torch.no_grad():
                raw = self.net(x, c_noise, class_labels=class_labels).float()
                estimate = (c_skip * noisy + c_out * raw).to(dtype)
        out: Tensor = self.net(x, c_noise, self_cond=estimate, class_labels=class_labels)
        loss = (out.float() - target).square().flatten(1).mean(1)
        return weigh(loss, self.uncertainty(c_noise)), loss
