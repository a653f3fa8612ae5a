"""`type: file`, the default: how a spec and `--state` name a folder for `LocalBackend`."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, unquote

from pydantic import BaseModel, Field

from gpuplan.state.backends.local import LocalBackend, workspaces
from gpuplan.state.backends.options import BackendOptions
from gpuplan.state.registry import BackendType, Opening

DEFAULT_FOLDER = "state"


class Options(BackendOptions):
    folder: str = Field(DEFAULT_FOLDER, min_length=1, description="relative to the project")


def _folder(options: BaseModel, opening: Opening) -> Path:
    assert isinstance(options, Options)
    return opening.folder / Path(options.folder).expanduser()


def _open(options: BaseModel, opening: Opening) -> LocalBackend:
    return LocalBackend(_folder(options, opening), opening.workspace, opening.clock)


async def _workspaces(options: BaseModel, opening: Opening) -> tuple[str, ...]:
    return workspaces(_folder(options, opening))


def _from_url(url: SplitResult) -> Mapping[str, str]:
    return {"folder": unquote(url.path)}


def _to_url(options: BaseModel) -> str:
    assert isinstance(options, Options)
    return options.folder


BACKEND = BackendType("file", Options, _open, _workspaces, _from_url, _to_url)
