import pytest
import torch

from mpvideo.device import Placement, choose_placement
from mpvideo.errors import DeviceError, ExitCode


@pytest.fixture
def available(monkeypatch: pytest.MonkeyPatch):
    """Sets which accelerators torch is to report."""

    def install(*names: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in names)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in names)

    install()
    return install


@pytest.mark.parametrize(
    ("names", "best"), [((), "cpu"), (("mps",), "mps"), (("cuda",), "cuda"), (("cuda", "mps"), "cuda")]
)
def test_auto_takes_the_best_there_is(available, names, best):
    available(*names)
    placement = choose_placement()
    assert placement == Placement(torch.device(best), torch.float32)
    assert placement.device_name == best


@pytest.mark.parametrize("name", ["cpu", "cuda", "mps"])
def test_device_by_name(available, name):
    available("cuda", "mps")
    assert choose_placement(name).device.type == name


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_device_that_is_not_there(available, name):
    with pytest.raises(DeviceError, match=rf"^--device {name} is not available to torch .* here; available: cpu$") as e:
        choose_placement(name)
    assert e.value.exit_code == ExitCode.DEVICE
    assert e.value.hint is not None and "--device" in e.value.hint


def test_message_lists_what_is_available(available):
    available("cuda")
    with pytest.raises(DeviceError, match=r"available: cuda, cpu$"):
        choose_placement("mps")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_dtype(available, name, dtype):
    placement = choose_placement("cpu", name)
    assert placement.dtype == dtype
    assert placement.dtype_name == ("float32" if name == "auto" else name)


def test_in_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Big GPU {device.index}")
    assert str(Placement(torch.device("cpu"), torch.bfloat16)) == "CPU, 3 threads, in bfloat16"
    assert str(Placement(torch.device("cuda:1"), torch.float16)) == "Big GPU 1 in float16"
    assert str(Placement(torch.device("mps"), torch.float32)) == "MPS in float32"
