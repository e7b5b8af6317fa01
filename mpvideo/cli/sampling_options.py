"""Options of the commands that sample: which checkpoint, how to sample it, and where to compute."""

from pathlib import Path
from typing import Annotated

import typer

from mpvideo.config import DeviceName, DtypeName
from mpvideo.sampling_config import Sampler, Schedule

VIDEO_PANEL = "Which videos"
SAMPLING_PANEL = "How to sample (what is left out comes from the checkpoint)"
CHURN_PANEL = "Noise put back while sampling (also from the checkpoint)"
COMPUTE_PANEL = "Where to compute"

CheckpointPath = Annotated[
    Path | None,
    typer.Option(
        "--ckpt",
        metavar="PATH",
        help="A safetensors file, a folder with one or its shards, or hf:owner/repo[/file][@revision] on the Hugging "
        "Face hub. Without it, the weights that come with mpvideo.",
        rich_help_panel=VIDEO_PANEL,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", help="Steps from noise to video.", rich_help_panel=SAMPLING_PANEL),
]
SamplerName = Annotated[
    Sampler | None,
    typer.Option(
        "--sampler",
        help="heun takes two evaluations of the denoiser a step, all others one; auto chooses by the number of steps, "
        "and heun for --s-churn.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="A set of the settings below: edm, edm2, package (of denoising-diffusion-pytorch), fast, or a file that "
        "`mpvideo tune` made. What is given beside it overrides it.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        metavar="X",
        help="Strength of guidance; 1 is none, more than 1 follows the class more closely, 0 leaves it out, or is "
        "--guide alone. All but 1 take two passes of the network for each evaluation.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
GuidePath = Annotated[
    Path | None,
    typer.Option(
        "--guide",
        metavar="PATH",
        help="Guide away from this checkpoint, a smaller or less trained one for the same videos, instead of away from "
        "no class. It has to carry its config.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
GuidanceInterval = Annotated[
    str | None,
    typer.Option(
        "--guidance-interval",
        metavar="LOW,HIGH",
        help="Take two passes at noise levels from LOW to HIGH only, and guide only there, but for --guidance-hold; or "
        "the word all.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
GuidanceHold = Annotated[
    bool | None,
    typer.Option(
        "--guidance-hold/--no-guidance-hold",
        help="Outside of the interval go on guiding by what the two passes differed in last, for which the first noise "
        "level takes two as well; or do not guide there.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
ApgEta = Annotated[
    float | None,
    typer.Option(
        "--apg-eta",
        metavar="X",
        help="Weight of what guidance adds along the estimate, which oversaturates: 1 leaves it, 0 takes it away.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
ApgNorm = Annotated[
    float | None,
    typer.Option(
        "--apg-norm",
        metavar="X",
        help="Greatest difference of the two estimates of guidance: its L2 norm over the network's whole tensor.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
SigmaMin = Annotated[
    float | None,
    typer.Option("--sigma-min", metavar="X", help="Lowest noise level.", rich_help_panel=SAMPLING_PANEL),
]
SigmaMax = Annotated[
    float | None,
    typer.Option(
        "--sigma-max", metavar="X", help="Highest noise level, where sampling starts.", rich_help_panel=SAMPLING_PANEL
    ),
]
Rho = Annotated[
    float | None,
    typer.Option(
        "--rho",
        metavar="X",
        help="Of the schedule karras: greater spends more steps at low noise levels.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
ScheduleName = Annotated[
    Schedule | None,
    typer.Option("--schedule", help="How noise levels are spaced.", rich_help_panel=SAMPLING_PANEL),
]
Sigmas = Annotated[
    str | None,
    typer.Option(
        "--sigmas",
        metavar="LIST",
        help="The noise levels themselves, descending, with commas or spaces, or a file of them. There are as many "
        "steps.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
Clamp = Annotated[
    bool | None,
    typer.Option(
        "--clamp/--no-clamp", help="Clamp every estimate to [-1, 1], or do not.", rich_help_panel=SAMPLING_PANEL
    ),
]
SChurn = Annotated[
    float | None,
    typer.Option(
        "--s-churn",
        metavar="X",
        help="How much, over all steps; 0 is none. For the samplers euler and heun.",
        rich_help_panel=CHURN_PANEL,
    ),
]
STMin = Annotated[
    float | None,
    typer.Option("--s-tmin", metavar="X", help="Lowest noise level to put it back at.", rich_help_panel=CHURN_PANEL),
]
STMax = Annotated[
    float | None,
    typer.Option("--s-tmax", metavar="X", help="Highest noise level to put it back at.", rich_help_panel=CHURN_PANEL),
]
SNoise = Annotated[
    float | None,
    typer.Option("--s-noise", metavar="X", help="Its scale; theory says 1.", rich_help_panel=CHURN_PANEL),
]
Eta = Annotated[
    float | None,
    typer.Option(
        "--eta",
        metavar="X",
        help="How much of the noise dpmpp-2m-sde draws anew: 1 as the theory has it, 0 none.",
        rich_help_panel=CHURN_PANEL,
    ),
]
Restarts = Annotated[
    int | None,
    typer.Option(
        "--restarts",
        metavar="N",
        help="How often to go back to a higher noise level and down again.",
        rich_help_panel=CHURN_PANEL,
    ),
]
RestartSteps = Annotated[
    int | None,
    typer.Option("--restart-steps", metavar="N", help="Steps of each way down.", rich_help_panel=CHURN_PANEL),
]
RestartMin = Annotated[
    float | None,
    typer.Option(
        "--restart-min",
        metavar="X",
        help="Noise level to go back from, or the next lower one of the schedule.",
        rich_help_panel=CHURN_PANEL,
    ),
]
RestartMax = Annotated[
    float | None,
    typer.Option(
        "--restart-max",
        metavar="X",
        help="Noise level to go back to, within the schedule.",
        rich_help_panel=CHURN_PANEL,
    ),
]
Device = Annotated[
    DeviceName,
    typer.Option(
        "--device",
        metavar="NAME",
        help="cpu, cuda or mps; auto takes the best there is that computes well: see `mpvideo doctor`.",
        rich_help_panel=COMPUTE_PANEL,
    ),
]
Dtype = Annotated[
    DtypeName,
    typer.Option(
        "--dtype",
        metavar="NAME",
        help="What the network computes in: float32, bfloat16 or float16. auto is float32, or bfloat16 where it is "
        "measured to be accurate and clearly faster.",
        rich_help_panel=COMPUTE_PANEL,
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size",
        metavar="N",
        help="Videos sampled at once; halved where memory does not suffice.",
        rich_help_panel=COMPUTE_PANEL,
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Let torch.compile make code for the network, on CUDA recorded as a graph: up to minutes before the first "
        "step, and again for every new size of a batch. On a CPU it made nothing faster; untried on CUDA.",
        rich_help_panel=COMPUTE_PANEL,
    ),
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="Sample every video by itself, so that its bytes do not depend on which others are made beside it; takes "
        "the place of --batch-size.",
        rich_help_panel=COMPUTE_PANEL,
    ),
]
