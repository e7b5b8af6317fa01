from pathlib import Path

from mpvideo.architecture import checkpoint_shapes
from mpvideo.checkpoint import find_problems, read_header
from tests.checkpoint.files import latent_config, with_shapes


def test_problems_are_named_with_shapes(tmp_path: Path) -> None:
    config = latent_config()
    shapes = checkpoint_shapes(config)
    assert find_problems(read_header(with_shapes(tmp_path / "a", shapes)), config) == []
    gone = [name for name in shapes if name.startswith("ups.")]
    changed = {name: shape for name, shape in shapes.items() if name not in gone}
    changed |= {"input_block.weight": (4, 4, 3, 3, 3), "ema.\n": (2,)}
    problems = find_problems(read_header(with_shapes(tmp_path / "b", changed)), config)
    assert len(problems) == 3
    assert problems[0].startswith(f"{len(gone)} tensors missing: {gone[0]} (")
    assert problems[0].endswith(f"and {len(gone) - 10} more")
    assert problems[1] == "1 tensor left over: ema.\\n (2)"
    assert problems[2] == "1 tensor misshapen: input_block.weight (4, 4, 3, 3, 3) instead of (4, 5, 3, 3, 3)"
