"""How much memory sampling takes, about, and how much there is. Only the standard library is imported."""

from contextlib import suppress
from math import prod
from pathlib import Path, PurePosixPath

from mpvideo.architecture import activation_bytes, autoencoder_shapes, network_plan, network_shapes
from mpvideo.config import CheckpointConfig, ModelConfig
from mpvideo.kernel_form import values_per_tap

BYTES_PER_VALUE = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of the dtypes that a network computes in."""


def sampling_memory(config: CheckpointConfig, dtype: str, stored: int, passes: int) -> dict[str, int]:
    """About how many bytes sampling one video takes beside torch itself.

    Args:
        config: the checkpoint.
        dtype: what the network computes in.
        stored: bytes of the checkpoint's tensors, which are all read before the network is built of them.
        passes: of the network at once, as on a GPU; a CPU may take them one after the other, in less.

    Returns:
        `weights`, of the network as it is kept and of the autoencoder; `activations`; and `most`, what is taken at the
        worst moment: the weights as they were read, or weights and activations.
    """
    weights = weight_bytes(config.model, dtype)
    if config.video.autoencoder is not None:
        weights += 4 * sum(map(prod, autoencoder_shapes(config.video.autoencoder).values()))
    activations = activation_bytes(config.model, BYTES_PER_VALUE[dtype]) * passes
    return {"weights": weights, "activations": activations, "most": max(stored, weights + activations)}


def weight_bytes(model: ModelConfig, dtype: str) -> int:
    """Bytes of a network's weights as `mpvideo.nn.inference` keeps them.

    The embedding stays in float32, and kernels are kept in the form that is fastest on a CPU without units for matrix
    products: on a GPU they take less, and in bfloat16 on a CPU that has them.
    """
    shapes = {block.name: (block.frames, block.image_size, block.image_size) for block in network_plan(model)}
    end = model.frames, model.image_size, model.image_size
    total = 0
    for name, shape in network_shapes(model).items():
        size = BYTES_PER_VALUE[dtype]
        if name.startswith(("to_time_emb", "to_class_emb")) or ".to_emb." in name:
            size = 4
        values: float = prod(shape)
        if len(shape) == 5 and shape[-1] == 3:
            planes = shapes.get(".".join(name.split(".")[:2]), end)
            values *= values_per_tap(shape[1], shape[0], planes, dtype)
        total += int(values) * size
    return total


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process can get without swapping, as Linux says; None elsewhere.

    The limits of containers, and of all control groups around the process, count.

    Args:
        root: where proc and sys are.
    """
    free = _available(root)
    if free is None:
        return None
    return min([free, *_left_in_groups(root)])


def _available(root: Path) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return None


def _left_in_groups(root: Path) -> list[int]:
    """What the limit of each control group leaves; see cgroups(7). Version 2 has one tree, version 1 one for memory."""
    left = []
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, _, named = line.partition(":")
            controllers, _, path = named.partition(":")
            if controllers == "":
                top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
            elif "memory" in controllers.split(","):
                top = root / "sys/fs/cgroup/memory"
                names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            else:
                continue
            # Inside a container the path may be the one outside, and its own limit stands at the top.
            inner = PurePosixPath(path.lstrip("/"))
            groups = [top / inner, *(top / above for above in inner.parents)]
            left += [bytes_left for group in groups if (bytes_left := _left(group, *names)) is not None]
    return left


def _left(group: Path, limit: str, used: str, reclaimable: str) -> int | None:
    """What is left of one group's limit; None if it has none. What its files hold in memory can be taken back."""
    with suppress(OSError, ValueError):
        limited = int((group / limit).read_text())  # 'max' stands for none
        taken = int((group / used).read_text())
        with suppress(OSError, ValueError):
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            taken -= int(stat.get(reclaimable, 0))
        return max(limited - taken, 0)
    return None
