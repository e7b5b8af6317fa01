"""The published package's module, without the rest of the package."""

import importlib
import importlib.util
import sys
import types

import torch

from mpvideo.config import ModelConfig

PACKAGE = "denoising_diffusion_pytorch"


def package_network(model: ModelConfig) -> torch.nn.Module:
    """The package's module with the same arguments; what the rest of the package needs is not installed."""
    if PACKAGE not in sys.modules:
        found = importlib.util.find_spec(PACKAGE)
        if found is None or not found.submodule_search_locations:
            raise SystemExit("install the package first: pip install --no-deps denoising-diffusion-pytorch==2.3.4")
        package = types.ModuleType(PACKAGE)
        package.__path__ = list(found.submodule_search_locations)
        sys.modules[PACKAGE] = package
    module = importlib.import_module(f"{PACKAGE}.karras_unet_3d")
    net: torch.nn.Module = module.KarrasUnet3D(**vars(model))
    return net
