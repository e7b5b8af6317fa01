import pytest
import torch

from mpvideo.device import CLEARLY_FASTER, Placement, choose_placement, cudnn_version, decide_dtype
from mpvideo.errors import DeviceError, ExitCode
from mpvideo.probe import Check

WRONG, GOOD = 0.4, 1e-6


class Machine:
    """What torch reports and the probe measures on a machine that the tests make up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.devices: tuple[str, ...] = ()
        self.errors: dict[tuple[str, str], float | None] = {}  # of those that are not good
        self.speedups: dict[str, float | None] = {}
        self.asked: list[tuple[str, str]] = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in self.devices)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in self.devices)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: self.bf16_units)
        monkeypatch.setattr(torch.backends.cudnn, "version", lambda: self.cudnn)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
        monkeypatch.setattr("mpvideo.device.check_block", self.check)
        monkeypatch.setattr("mpvideo.device.measure_speedup", lambda device: self.speedups.get(device, 1.0))
        monkeypatch.setattr("mpvideo.probe.onednn_bfloat16", lambda: self.bf16_units)
        self.bf16_units = True
        self.cudnn: int | None = None

    def check(self, device: str, dtype: str) -> Check:
        self.asked.append((device, dtype))
        return Check(device, dtype, self.errors.get((device, dtype), GOOD))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.mark.parametrize(
    ("names", "best"), [((), "cpu"), (("mps",), "mps"), (("cuda",), "cuda"), (("cuda", "mps"), "cuda")]
)
def test_auto_takes_the_best_there_is(machine, names, best):
    machine.devices = names
    placement = choose_placement()
    assert (placement.device, placement.dtype) == (torch.device(best), torch.float32)
    assert placement.device_name == best
    assert placement.warnings == ()


@pytest.mark.parametrize("name", ["cpu", "cuda", "mps"])
def test_device_by_name(machine, name):
    machine.devices = ("cuda", "mps")
    assert choose_placement(name).device.type == name


def test_compiled_where_it_works(machine, monkeypatch):
    monkeypatch.setattr("mpvideo.device.compiler_problem", {"cpu": None, "cuda": "Triton\x1b is missing"}.get)
    assert not choose_placement().compiled
    placement = choose_placement(compiled=True)
    assert placement.compiled and placement.warnings == ()
    assert ", compiled at the first use" in str(placement)
    machine.devices = ("cuda",)
    placement = choose_placement(compiled=True)
    assert not placement.compiled
    [warning] = placement.warnings
    assert warning == r"--compile is not used, torch.compile does not work here: Triton\x1b is missing"


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_device_that_is_not_there(machine, name):
    with pytest.raises(DeviceError, match=rf"^--device {name} is not available to torch .* here; available: cpu$") as e:
        choose_placement(name)
    assert e.value.exit_code == ExitCode.DEVICE
    assert e.value.hint is not None and "--device" in e.value.hint


def test_message_lists_what_is_available(machine):
    machine.devices = ("cuda",)
    with pytest.raises(DeviceError, match=r"available: cuda, cpu$"):
        choose_placement("mps")


def test_devices_that_compute_wrongly_are_passed_over(machine):
    machine.devices, machine.cudnn = ("cuda", "mps"), 91002
    machine.errors = {("cuda", "float32"): None, ("mps", "float32"): WRONG}
    placement = choose_placement()
    assert placement.device == torch.device("cpu")
    assert placement.warnings == (
        "CUDA is not used: float32 gives NaN or infinity on a test block (cuDNN 9.10.2)",
        "MPS is not used: float32 is wrong on a test block: relative error 0.4, at most 0.0001 expected",
    )
    machine.errors = {("cuda", "float32"): WRONG}
    placement = choose_placement()
    assert placement.device == torch.device("mps")
    assert len(placement.warnings) == 1


@pytest.mark.parametrize("name", ["cuda", "mps"])
@pytest.mark.parametrize(
    ("dtype", "checked", "hint"),
    [
        ("auto", "float32", "Try --device cpu."),
        ("float32", "float32", "Try --device cpu."),
        ("float16", "float16", "Try --dtype float32, or --device cpu."),
    ],
)
def test_a_device_by_name_that_computes_wrongly_is_refused(machine, name, dtype, checked, hint):
    machine.devices, machine.errors = (name,), {(name, checked): WRONG}
    with pytest.raises(DeviceError, match=f"^--device {name} cannot be used: {checked} is wrong on a test block") as e:
        choose_placement(name, dtype)
    assert e.value.exit_code == ExitCode.DEVICE
    assert e.value.hint == hint


@pytest.mark.parametrize(
    ("name", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)]
)
def test_dtype_by_name(machine, name, dtype):
    machine.speedups = {"cpu": 5.0}
    placement = choose_placement("cpu", name)
    assert placement == Placement(torch.device("cpu"), dtype)
    assert placement.dtype_name == name
    assert placement.reason == ""
    assert machine.asked == [], "nothing is measured where nothing is to be decided"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_bfloat16_where_it_is_faster_and_accurate(machine, device):
    machine.devices, machine.speedups = ("cuda",), {device: 2.345}
    placement = choose_placement(device)
    assert placement.dtype == torch.bfloat16
    assert placement.reason == "a test block is 2.3 times as fast as in float32"
    machine.errors, machine.cudnn = {(device, "bfloat16"): WRONG}, 8907
    placement = choose_placement(device)
    assert placement.dtype == torch.float32
    suspect = " (cuDNN 8.9.7)" if device == "cuda" else ""
    assert placement.reason == (
        f"bfloat16 is wrong on a test block: relative error 0.4, at most 0.03 expected{suspect}"
    )


def test_float32_where_bfloat16_has_no_units(machine):
    machine.devices, machine.speedups, machine.bf16_units = ("cuda",), {"cuda": 3.0}, False
    placement = choose_placement()
    assert (placement.dtype, placement.reason) == (torch.float32, "this GPU has no bfloat16 units")
    placement = choose_placement("cpu")
    reason = "this processor has no bfloat16 instructions that torch uses"
    assert (placement.dtype, placement.reason, placement.warnings) == (torch.float32, reason, ())
    assert machine.asked == [("cuda", "float32")], "what would take long is not tried"


def test_slow_bfloat16_is_warned_of(machine):
    machine.bf16_units = False
    placement = choose_placement("cpu", "bfloat16")
    assert placement.dtype == torch.bfloat16
    assert placement.warnings == (
        "bfloat16 takes many times as long as float32 here: "
        "this processor has no bfloat16 instructions that torch uses",
    )


def test_float32_on_mps(machine):
    machine.devices, machine.speedups = ("mps",), {"mps": 3.0}
    placement = choose_placement()
    assert (placement.dtype, placement.reason) == (torch.float32, "bfloat16 is not tried on MPS")
    assert machine.asked == [("mps", "float32")]


def test_cuda_computes_float32_in_float32(machine):
    machine.devices = ("cuda",)
    choose_placement("cpu")
    assert torch.backends.cudnn.allow_tf32
    choose_placement()
    assert not torch.backends.cudnn.allow_tf32


def test_decision():
    """On measured numbers alone; the limits themselves pass."""

    def decide(error, speedup):
        return decide_dtype(Check("cpu", "bfloat16", error), speedup)

    assert decide(0.03, CLEARLY_FASTER)[0] == decide(0.0, 100.0)[0] == torch.bfloat16
    for error, speedup, reason in (
        (0.0301, 100.0, "bfloat16 is wrong on a test block: relative error 0.03, at most 0.03 expected"),
        (None, 100.0, "bfloat16 gives NaN or infinity on a test block"),
        (0.01, 1.04, "bfloat16 is 1.04 times as fast on a test block, 1.1 is wanted"),
        (0.01, 1.099, "bfloat16 is 1.09 times as fast on a test block, 1.1 is wanted"),
        (0.01, 0.1, "bfloat16 is 0.10 times as fast on a test block, 1.1 is wanted"),
        (0.01, None, "the speed of bfloat16 could not be measured"),
    ):
        assert decide(error, speedup) == (torch.float32, reason)


@pytest.mark.parametrize(("number", "words"), [(None, None), (8907, "8.9.7"), (90100, "9.1.0"), (91401, "9.14.1")])
def test_cudnn_version(machine, number, words):
    machine.cudnn = number
    assert cudnn_version() == words


def test_in_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Big GPU {device.index}")
    assert str(Placement(torch.device("cpu"), torch.bfloat16)) == "CPU, 3 threads, in bfloat16"
    assert str(Placement(torch.device("cuda:1"), torch.float16)) == "Big GPU 1 in float16"
    assert str(Placement(torch.device("mps"), torch.float32, "it is")) == "MPS in float32: it is"
