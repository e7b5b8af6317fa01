"""How two checkpoints differ, as one JSON object.

The keys, which stay:

    kind            "diff"
    a, b            the two, as given
    same            whether config and tensors are the same, as far as was looked
    config          [{field, a, b}], fields that differ, null where one side has none; of a config that is not known as
                    a whole, those that are declared
    tensors         {missing, added, reshaped, retyped, shared}: names that only A has, that only B has,
                    [{name, a, b}] of shapes and of dtypes, and how many names have the same shape in both
    values          {name: relative difference} of shared tensors, the greatest first, if the weights were read; see
                    `mpvideo.checkpoint.health.relative_differences`
    uncompared      names of shared tensors whose values were not compared, since weights cannot have their dtypes
    problems        [{message, hint}], why one of the configs is not known
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mpvideo.checkpoint.header import Header
from mpvideo.checkpoint.report import Report, dtype_word
from mpvideo.checkpoint.resolving import config_layers, resolve_config, together
from mpvideo.errors import CheckpointError


def compare(a: Header, b: Header) -> Report:
    """Compares what two checkpoints say of themselves: configs and tensors, without the weights."""
    problems: list[CheckpointError] = []
    configs = [_config(header, problems) for header in (a, b)]
    before, after = (config or {} for config in configs)
    fields = [
        {"field": field, "a": before.get(field), "b": after.get(field)}
        for field in {**before, **after}
        if before.get(field) != after.get(field)
    ]
    tensors = _tensors(a, b)
    return {
        "kind": "diff",
        "a": str(a.path),
        "b": str(b.path),
        # The rest of a config follows from what is declared and from the tensors.
        "same": None not in configs
        and not fields
        and not any(tensors[kind] for kind in ("missing", "added", "reshaped", "retyped")),
        "config": fields,
        "tensors": tensors,
        "values": None,
        "uncompared": None,
        "problems": [{"message": error.message, "hint": error.hint} for error in problems],
    }


def with_values(report: Report, differences: Mapping[str, float | None], uncompared: Sequence[str] = ()) -> Report:
    """The comparison with what `mpvideo.checkpoint.health.relative_differences` found."""
    ordered = sorted(differences.items(), key=lambda item: float("-inf") if item[1] is None else -item[1])
    equal = all(value == 0 for value in differences.values())
    return {**report, "values": dict(ordered), "uncompared": list(uncompared), "same": report["same"] and equal}


def _config(header: Header, problems: list[CheckpointError]) -> dict[str, Any] | None:
    """A config's fields; of one that does not resolve, those that are declared; None if these cannot be read."""
    try:
        return dict(_leaves("", resolve_config(header).to_dict()))
    except CheckpointError as error:
        problems.append(error)
    try:
        return dict(_leaves("", together(config_layers(header))))
    except CheckpointError:
        return None


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Fields by their paths; a list is one value."""
    if not isinstance(value, Mapping):
        yield path, list(value) if isinstance(value, tuple) else value
        return
    for key, item in value.items():
        yield from _leaves(f"{path}.{key}" if path else str(key), item)


def _tensors(a: Header, b: Header) -> dict[str, Any]:
    both = [(name, a.tensors[name], b.tensors[name]) for name in a.tensors if name in b.tensors]
    return {
        "missing": [name for name in a.tensors if name not in b.tensors],
        "added": [name for name in b.tensors if name not in a.tensors],
        "reshaped": [
            {"name": name, "a": list(one.shape), "b": list(other.shape)}
            for name, one, other in both
            if one.shape != other.shape
        ],
        "retyped": [
            {"name": name, "a": dtype_word(one), "b": dtype_word(other)}
            for name, one, other in both
            if one.dtype != other.dtype
        ],
        "shared": sum(one.shape == other.shape for _, one, other in both),
    }
