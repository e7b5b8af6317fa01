"""Videos per second: how good a checkpoint's videos are for each solver and number of evaluations.

    python benchmarks/quality --folder build/quality
    python benchmarks/quality --folder build/quality --videos 8 --solvers heun,ipndm --evaluations 8,18

Every cell samples the same videos: the same classes, seeds and start noise, with the checkpoint's guidance, without
noise put back (but for dpmpp-2m-sde). Measured are the judge's accuracy, the Fréchet distance to fresh renderings in
its features (both as `mpvideo eval` does), the difference from a reference of Heun's method with 200 steps for the same
noise (the root mean square of a video's pixels, averaged over the videos), and the time. Each cell is kept in the
folder as it is finished, so that the same command goes on where it was stopped. In the end the folder holds table.md,
table.json and quality.png.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from cells import REFERENCE, Bench, Cell, Protocol
from chart import chart
from table import markdown, verdict

from mpvideo.checkpoint import bundled_checkpoint, open_checkpoint
from mpvideo.cli.sampling_settings import parse_interval
from mpvideo.config import SamplingConfig
from mpvideo.device import choose_placement
from mpvideo.evaluation.classes import balanced_classes
from mpvideo.model import load_model
from mpvideo.presets import find_preset

SOLVERS = ("euler", "heun", "dpmpp-2m", "dpmpp-3m", "dpmpp-2m-sde", "unipc", "deis", "ipndm", "lms")
EVALUATIONS = (5, 8, 10, 12, 18, 24, 35, 63)
REFERENCE_EVALUATIONS = 399


def settings(own: SamplingConfig, solver: str, evaluations: int) -> SamplingConfig:
    """The checkpoint's settings with a solver and as many steps as at most so many evaluations allow."""
    steps = (evaluations + 1) // 2 if solver == "heun" else evaluations
    plain = {"s_churn": 0.0, "restarts": 0, "sigmas": None}
    return dataclasses.replace(own, sampler=solver, steps=steps, **plain)  # type: ignore[arg-type]


def cells(own: SamplingConfig, arguments: argparse.Namespace) -> list[Cell]:
    """What is to be measured, the fewest evaluations first."""
    found = [
        Cell(solver, settings(own, solver, int(number)))
        for number in arguments.evaluations.split(",")
        for solver in arguments.solvers.split(",")
    ]
    for name in filter(None, arguments.presets.split(",")):
        preset = find_preset(name)
        found.append(Cell(Path(name).stem, dataclasses.replace(own, **preset.sampling), preset.clamp))
    return sorted(found, key=lambda cell: cell.sampling.num_evaluations)


def main() -> None:
    """Measures what is not measured yet, and writes table and chart of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where measurements are kept")
    parser.add_argument("--ckpt", type=Path, help="a checkpoint of the menagerie; without it, the bundled one")
    parser.add_argument("--videos", type=int, default=200, help="how many videos each cell samples, at least 4")
    parser.add_argument("--solvers", default=",".join(SOLVERS), help="solvers, with commas")
    parser.add_argument("--evaluations", default=",".join(map(str, EVALUATIONS)), help="numbers of evaluations")
    parser.add_argument("--presets", default="", help="presets and files of `mpvideo tune` to measure beside them")
    parser.add_argument("--guidance", type=float, help="another strength than the checkpoint's")
    parser.add_argument("--guidance-interval", help="noise levels LOW,HIGH to guide at, or all")
    parser.add_argument("--guidance-hold", action="store_true", help="hold guidance outside of them")
    parser.add_argument("--seed", type=int, default=0, help="of the first video")
    parser.add_argument("--batch-size", type=int, default=8, help="videos at once")
    parser.add_argument("--dtype", default="auto", help="what the network computes in")
    arguments = parser.parse_args()

    checkpoint = open_checkpoint(arguments.ckpt or bundled_checkpoint())
    own = checkpoint.config.sampling
    if arguments.guidance is not None:
        own = dataclasses.replace(own, guidance=arguments.guidance)
    if arguments.guidance_interval is not None:
        own = dataclasses.replace(own, guidance_interval=parse_interval(arguments.guidance_interval))
    if arguments.guidance_hold:
        own = dataclasses.replace(own, guidance_hold=True)
    wanted = cells(own, arguments)
    model = load_model(checkpoint, choose_placement("auto", arguments.dtype))
    protocol = Protocol(
        sha256=model.sha256,
        videos=arguments.videos,
        seed=arguments.seed,
        guidance=own.guidance,
        guidance_interval=own.guidance_interval and list(own.guidance_interval),
        guidance_hold=own.guidance_hold,
        dtype=model.placement.dtype_name,
        batch_size=arguments.batch_size,
    )
    num_classes = checkpoint.config.model.num_classes or 0
    bench = Bench(arguments.folder, model, protocol, balanced_classes(arguments.videos, num_classes, arguments.seed))
    reference = Cell(REFERENCE, settings(own, "heun", REFERENCE_EVALUATIONS))
    for cell in [reference, *wanted]:
        row = bench.measured(cell)
        print(f"{row['name']} {row['evaluations']}: {100 * row['all']:.1f} % right, Fréchet distance "
              f"{row['frechet']:.4g}, {row['difference']:.2f} from the reference, {row['seconds']:.3f} s a video",
              flush=True)  # fmt: skip

    rows = bench.rows()
    text = markdown(rows, bench.real())
    (arguments.folder / "table.md").write_text(text)
    whole = {"protocol": dataclasses.asdict(protocol), "real": bench.real(), "rows": rows}
    (arguments.folder / "table.json").write_text(json.dumps(whole, indent=2) + "\n")
    chart(rows).save(arguments.folder / "quality.png")
    print(f"\n{text}\n{verdict(rows)}")


if __name__ == "__main__":
    main()
