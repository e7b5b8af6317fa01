"""`mpvideo convert`: a checkpoint out of what a training left."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mpvideo.checkpoint.header import WEIGHTS_FILE, is_folder
from mpvideo.cli.hub import located
from mpvideo.cli.options import AsJson, ConfigFile, Quiet, Settings, check_config_file, parse_settings
from mpvideo.cli.streams import tell, write_result
from mpvideo.errors import UsageError, naming
from mpvideo.files import check_writable, file_key
from mpvideo.text import printable

WEIGHTS_PANEL = "Which weights"
FILE_PANEL = "The file"

WeightDtype = Literal["float16", "bfloat16", "float32", "float64"]


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="A PyTorch .pt or .bin file (a state dict, or a trainer's file), a safetensors file, a folder that "
            "accelerate wrote, or hf:owner/repo[/file][@revision].",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The checkpoint to write, a .safetensors file.", show_default=False)
    ],
    ema: Annotated[
        bool | None,
        typer.Option(
            "--ema/--no-ema",
            help="The average of the weights, or the raw ones. By default the average where there is one.",
            show_default=False,
            rich_help_panel=WEIGHTS_PANEL,
        ),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix",
            metavar="WORDS",
            help="The network whose names begin with these words, where the file holds several.",
            rich_help_panel=WEIGHTS_PANEL,
        ),
    ] = None,
    legacy_fan_in: Annotated[
        bool,
        typer.Option(
            "--legacy-fan-in",
            help="The weights were trained with a release of the package from before 28 February 2024.",
            rich_help_panel=WEIGHTS_PANEL,
        ),
    ] = False,
    dtype: Annotated[
        WeightDtype | None,
        typer.Option(
            "--dtype",
            help="The dtype to save the weights in. By default their own, and bfloat16 for float8.",
            show_default=False,
            rich_help_panel=FILE_PANEL,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace an existing file.", rich_help_panel=FILE_PANEL)
    ] = False,
    config: ConfigFile = None,
    settings: Settings = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make a checkpoint of weights trained elsewhere.

    For networks that were trained with denoising-diffusion-pytorch. The architecture is inferred from the shapes of
    the tensors. What they do not tell has to be given with --set or --config; the command says what, and which values
    fit, and so does `mpvideo inspect IN`. Nothing in the file is run. The checkpoint takes its name only after it has
    been read again and one forward pass found equal to the source's, or nearly so with a narrower --dtype.

    \b
    mpvideo convert model-10.pt model.safetensors
    mpvideo convert model-10.pt raw.safetensors --no-ema --dtype bfloat16 --config config.json
    """
    if out.suffix.lower() != ".safetensors":
        example = out / WEIGHTS_FILE if is_folder(out) else out.with_suffix(".safetensors").name
        raise UsageError(
            f"OUT must end in .safetensors, got {printable(out)}", hint=f"For example {printable(example)}."
        )
    overrides = parse_settings(settings)
    if legacy_fan_in:
        edm = overrides.setdefault("edm", {})
        if not isinstance(edm, dict) or edm.get("legacy_fan_in") not in (None, True):
            raise UsageError("--legacy-fan-in contradicts --set edm")
        edm["legacy_fan_in"] = True
    with naming("OUT", out):
        check_writable(out, overwrite=overwrite)
    check_config_file(config)

    from mpvideo.checkpoint.conversion import find_source, plan_conversion

    found = find_source(located(source), ema=ema, prefix=prefix)
    if file_key(out) in map(file_key, found.files):
        raise UsageError(
            f"OUT must not be a file that IN is read from, got {printable(out)}",
            hint="Choose another name: that file is never replaced.",
        )
    for line in found.lines():
        tell(line, quiet=quiet)
    plan = plan_conversion(found, config_file=config, overrides=overrides)
    tell(plan.line(), quiet=quiet)

    # Everything but the weights is known to be right before torch, which takes a second, is imported.
    import torch

    from mpvideo.convert import convert as write

    done = write(plan, out, dtype=getattr(torch, dtype) if dtype else None, overwrite=overwrite)
    equal = "the same to the bit" if done.difference == 0 else f"{done.difference:.1e} away"
    tell(f"saved as {', '.join(done.dtypes)}, read again: one forward pass is {equal}", quiet=quiet)
    about: dict[str, Any] = {
        "path": str(out),
        "prefix": found.network.prefix,
        "ema": found.network.is_average,
        "step": done.step,
        "dtypes": done.dtypes,
        "exact": done.exact,
        "difference": done.difference,
        "inferred": dict(found.found.determined),
        "assumed": plan.assumed,
    }
    write_result(f"{json.dumps(about)}\n" if as_json else f"{out}\n")
