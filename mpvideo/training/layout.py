"""Which videos a folder holds, and of what classes."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from mpvideo.errors import UsageError
from mpvideo.files import reason
from mpvideo.text import counted, first_ten, printable
from mpvideo.video.decode import VIDEO_SUFFIXES
from mpvideo.video.folder import natural_key


@dataclass(frozen=True)
class Layout:
    """What a folder holds.

    Attributes:
        videos: the files, and the folders of PNG frames, by their names: paths within the folder, with slashes.
        labels: the class of each video; zeros without classes.
        classes: names of the classes, in natural order (2 before 10); None without classes.
        others: names of all that is no video and where it was found has no meaning; folders end in a slash.
    """

    videos: dict[str, Path]
    labels: dict[str, int]
    classes: tuple[str, ...] | None
    others: tuple[str, ...]


def find_videos(root: Path) -> Layout:
    """Looks through a folder of videos.

    A video is a file with one of `VIDEO_SUFFIXES`, or a folder with PNG files, which are its frames, and no video
    files. A subfolder that has videos in it is a class of that name. So there are two layouts:

        clips/cats/1.mp4, clips/cats/2/0001.png, clips/dogs/1.gif    two classes
        clips/1.mp4, clips/2.gif, clips/3/0001.png                   no classes

    A folder whose subfolders hold PNG files directly is of the second kind: each subfolder is one video. Hidden files
    and folders are passed over. Links are followed, but not to a folder that they lie in.

    Raises:
        UsageError: it has videos both in classes and by themselves; a class has a name that none can have; or it, or
            a folder in it, cannot be read.
    """
    top = _look(root)
    loose = {path.name: path for path in top.videos}
    others = [path.name for path in top.frames] + top.others
    classes: dict[str, dict[str, Path]] = {}
    for folder in top.folders:
        inside = _look(folder)
        videos, rest = _class_videos(inside)
        if videos:
            _check_class_name(folder)
            classes[folder.name] = {f"{folder.name}/{name}": path for name, path in videos.items()}
            others += [f"{folder.name}/{name}" for name in rest]
        elif inside.frames:
            loose[folder.name] = folder
            others += [f"{folder.name}/{name}" for name in _besides_frames(inside)]
        else:
            others.append(f"{folder.name}/")
    if loose and classes:
        raise UsageError(
            f"{printable(root)} must have its videos in folders of their classes or all by themselves, got "
            f"{counted(len(loose), 'video')} by themselves ({first_ten(sorted(loose))}) and "
            f"{len(classes)} folders with videos ({first_ten(sorted(classes))})",
            hint="Move each video into the folder of its class; PNG frames need a folder for each video.",
        )
    if not classes:
        return Layout(_in_order(loose), dict.fromkeys(loose, 0), None, tuple(sorted(others)))
    names = tuple(sorted(classes, key=natural_key))
    labels = {video: index for index, name in enumerate(names) for video in classes[name]}
    videos = {video: path for name in names for video, path in _in_order(classes[name]).items()}
    return Layout(videos, labels, names, tuple(sorted(others)))


def holds_videos(folder: Path) -> bool:
    """Whether there is a video, or a frame of one, at any depth; links to folders inside are not followed."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        shown = [Path(place, name) for name in files if not name.startswith(".")]
        if any(path.suffix.lower() in (*VIDEO_SUFFIXES, ".png") and path.is_file() for path in shown):
            return True
    return False


def leads_back(folder: Path) -> bool:
    """Whether a folder is a link to one that it lies in."""
    around = folder.parent.resolve()
    return folder.resolve() in (around, *around.parents)


@dataclass
class _Contents:
    """What lies directly in a folder: videos, PNG files, folders, and the names of anything else."""

    videos: list[Path] = field(default_factory=list)
    frames: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def _look(folder: Path) -> _Contents:
    found = _Contents()
    try:
        for path in sorted(folder.iterdir()):
            suffix = path.suffix.lower()
            if path.name.startswith("."):
                continue
            if path.is_dir():
                found.others.append(f"{path.name}/") if leads_back(path) else found.folders.append(path)
            elif path.is_file() and suffix in VIDEO_SUFFIXES:
                found.videos.append(path)
            elif path.is_file() and suffix == ".png":
                found.frames.append(path)
            else:  # links to nowhere, pipes and devices too, whatever they are called
                found.others.append(path.name)
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"{printable(folder)} cannot be read as a folder of videos: {reason(error)}",
            hint="DATA is a folder with videos, or with a subfolder of videos for each class.",
        ) from error
    return found


def _class_videos(contents: _Contents) -> tuple[dict[str, Path], list[str]]:
    """The videos of a folder that may be a class, by their names in it, and the names of all else."""
    videos = {path.name: path for path in contents.videos}
    others = [path.name for path in contents.frames] + contents.others
    for folder in contents.folders:
        inside = _look(folder)
        if inside.frames and not inside.videos:
            videos[folder.name] = folder
            others += [f"{folder.name}/{name}" for name in _besides_frames(inside)]
        else:
            others.append(f"{folder.name}/")
    return videos, others


def _besides_frames(contents: _Contents) -> list[str]:
    """The names of what lies in a folder of frames besides the frames."""
    return [f"{folder.name}/" for folder in contents.folders] + contents.others


def _check_class_name(folder: Path) -> None:
    if "," in folder.name or not folder.name.strip() or not folder.name.isprintable():
        raise UsageError(
            f"a class must have a name of plain characters without commas, got the folder {printable(folder)}",
            hint="Rename the folder.",
        )


def _in_order(videos: dict[str, Path]) -> dict[str, Path]:
    return {name: videos[name] for name in sorted(videos, key=natural_key)}
