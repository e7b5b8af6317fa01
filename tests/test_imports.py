"""What may be imported where."""

import subprocess
import sys
from pathlib import Path

import pytest

import mpvideo

ROOT = Path(mpvideo.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if path.name != "__main__.py"
)
STANDARD_LIBRARY_ONLY = (
    "mpvideo.errors",
    "mpvideo.checks",
    "mpvideo.config",
    "mpvideo.sampling_config",
    "mpvideo.presets",
    "mpvideo.architecture",
    "mpvideo.files",
    "mpvideo.checkpoint",
    "mpvideo.checkpoint.conversion",
    "mpvideo.checkpoint.report",
    "mpvideo.hub",
)
USES = ("generation", "batch", "training", "evaluation", "cli")
"""What makes something of networks, samplers, checkpoints and files, none of which know it."""


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_imports_without_the_video_writer_or_tests() -> None:
    blocked = ("imageio", "imageio_ffmpeg", "pytest", "hypothesis")
    python(
        f"import sys, importlib\nfor name in {blocked}: sys.modules[name] = None\n"
        f"for name in {MODULES}: importlib.import_module(name)"
    )


@pytest.mark.parametrize("module", STANDARD_LIBRARY_ONLY)
def test_what_needs_the_standard_library_alone(module: str) -> None:
    heavy = ("torch", "numpy", "typer", "rich", "safetensors", "PIL", "einops")
    assert python(f"import sys, {module}\nprint([name for name in {heavy} if name in sys.modules])") == "[]\n"


def test_the_program_starts_without_torch() -> None:
    heavy = ("torch", "numpy", "PIL", "safetensors")
    assert python(f"import sys, mpvideo.cli\nprint([name for name in {heavy} if name in sys.modules])") == "[]\n"


@pytest.mark.parametrize(
    ("package", "above"),
    [
        ("nn", ("diffusion", "checkpoint", "video", *USES, "device")),
        ("diffusion", ("nn", "checkpoint", "video", *USES, "device")),
        ("checkpoint", ("nn", "diffusion", "video", *USES, "device")),
        ("video", ("nn", "diffusion", "checkpoint", *USES, "device")),
        ("training", ("cli", "generation", "batch", "evaluation")),
        ("batch", ("cli", "training", "evaluation")),
        ("evaluation", ("cli", "generation", "batch")),
    ],
)
def test_imports_point_one_way(package: str, above: tuple[str, ...]) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for name in above:
            text = path.read_text()
            assert f"from mpvideo.{name}" not in text and f"import mpvideo.{name}" not in text, path
