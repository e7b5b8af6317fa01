from math import prod
from pathlib import Path

import pytest
import torch

from mpvideo.architecture import activation_bytes, autoencoder_shapes, network_shapes
from mpvideo.checkpoint.memory import free_memory, sampling_memory, weight_bytes
from mpvideo.config import ModelConfig
from mpvideo.nn.inference import InferenceUnet3D
from tests.checkpoint.files import latent_config
from tests.checkpoints import CONFIG, random_tensors
from tests.networks import TINY

FREE = "MemTotal: 9 kB\nMemAvailable: 1000 kB\n"


def held(value: object, seen: set[int]) -> int:
    """Bytes of all tensors that an object reaches, each storage once."""
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        if not value.is_mkldnn and value.layout == torch.strided:
            return value.untyped_storage().nbytes() if value.untyped_storage().data_ptr() not in seen else 0
        return value.numel() * value.element_size()
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    inner = [*inner, *vars(value).values()] if hasattr(value, "__dict__") else inner
    return sum(held(item, seen) for item in inner)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("size", "width"), [(8, 16), (4, 16), (16, 64)])
def test_weights_are_kept_in_as_many_bytes(size: int, width: int, dtype: str) -> None:
    """Of planes of 8, 4 and 2, of 4, 2 and 1, and of 16, 8 and 4, held against what the network really keeps."""
    model = ModelConfig(
        **{**TINY, "frames": 8, "image_size": size, "dim": width, "dim_max": 2 * width, "attn_res": (4,)}
    )
    tensors = {name: torch.ones(shape) for name, shape in network_shapes(model).items()}
    net = InferenceUnet3D(model, tensors, dtype=getattr(torch, dtype))
    assert held(net, set()) == pytest.approx(weight_bytes(model, dtype), rel=0.12)


def test_the_autoencoder_stays_in_float32() -> None:
    config = latent_config()
    assert config.video.autoencoder is not None
    inner = 4 * sum(map(prod, autoencoder_shapes(config.video.autoencoder).values()))
    for dtype, size in (("float32", 4), ("bfloat16", 2)):
        memory = sampling_memory(config, dtype, 0, passes=2)
        assert memory["weights"] == weight_bytes(config.model, dtype) + inner
        assert memory["activations"] == 2 * activation_bytes(config.model, size)
        assert memory["most"] == memory["weights"] + memory["activations"]


def test_a_file_in_a_wider_dtype_counts_while_it_is_read() -> None:
    stored = sum(8 * tensor.numel() for tensor in random_tensors(CONFIG).values())
    assert sampling_memory(CONFIG, "bfloat16", stored, passes=1)["most"] == stored


def system(root: Path, **files: str) -> Path:
    for name, text in {"proc/meminfo": FREE, **{key.replace("__", "/"): text for key, text in files.items()}}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_memory_of_a_machine(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None, "a system without /proc"
    assert free_memory(system(tmp_path)) == 1_024_000
    (tmp_path / "proc/meminfo").write_text("MemAvailable: many\n")
    assert free_memory(tmp_path) is None


def group(root: Path, path: str, limit: object, used: int, files: str = "", version: int = 2) -> None:
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(files)


def test_limits_of_containers(tmp_path: Path) -> None:
    system(tmp_path, proc__self__cgroup="0::/a/b\n")
    group(tmp_path, "a/b", "max", 10)
    assert free_memory(tmp_path) == 1_024_000, "no limit"
    group(tmp_path, "a", 5000, 3000, "anon 1000\ninactive_file 500\n")
    assert free_memory(tmp_path) == 2500, "of the group above, where files in memory can be taken back"
    group(tmp_path, "a/b", 100, 300)
    assert free_memory(tmp_path) == 0, "beyond its limit already"


def test_limits_of_containers_of_version_1(tmp_path: Path) -> None:
    system(tmp_path, proc__self__cgroup="5:cpu,cpuacct:/x\n4:memory:/elsewhere/outside\n0::/\n")
    group(tmp_path, "memory", 6000, 1000, "total_inactive_file 200\n", version=1)
    assert free_memory(tmp_path) == 5200, "its own limit stands at the top inside of it"
