"""Several files to one document: `include`, and `-f` given more than once.

Called by `load`. Maps merge; lists and scalars replace; a null removes what an earlier file said.
"""

import posixpath
from collections.abc import Callable, Sequence

from gpuplan.core.diagnostics import At, Diagnostic, Label, Sink
from gpuplan.core.values import JsonValue
from gpuplan.spec.source import SourceFile, read_values
from gpuplan.spec.sources import Sources

Document = dict[str, JsonValue]
ReadFile = Callable[[str, str], bytes]


def read_document(files: Sequence[SourceFile], read_file: ReadFile, sources: Sources, sink: Sink) -> Document | None:
    """The merged document; None when a file could not be read, which `sink` then says."""
    reader = _Reader(read_file, sources, sink)
    documents = [reader.read(file, ()) for file in files]
    if not files:
        sink.add(Diagnostic("no-spec", "there is no spec file here", hint="write `gpuplan.yaml`, or name one with -f"))
    if not files or None in documents:
        return None
    merged: Document = {}
    for document in documents:
        merge(merged, document or {})
    return merged


def merge(below: Document, above: Document) -> None:
    """Lay `above` over `below`, in place. Values of `above` may become part of `below`."""
    for key, value in above.items():
        present = below.get(key)
        if isinstance(value, dict) and isinstance(present, dict):
            merge(present, value)
        elif value is None and present is not None:
            del below[key]
        else:
            below[key] = value


class _Reader:
    def __init__(self, read_file: ReadFile, sources: Sources, sink: Sink) -> None:
        self._read_file = read_file
        self._sources = sources
        self._sink = sink
        self._read: set[str] = set()

    def read(self, file: SourceFile, within: tuple[str, ...]) -> Document | None:
        """A file over those it includes, which come first."""
        self._read.add(file.name)
        document = read_values(file, self._sink)
        included: Document = {}
        if document is not None and "include" in document:
            for index, path in enumerate(self._paths(file, document)):
                part = self._include(file, path, index, (*within, file.name))
                if part is None:
                    document = None
                else:
                    merge(included, part)
        self._sources.add(file)
        if document is None:
            return None
        if not included:
            return document
        document.pop("include", None)
        merge(included, document)
        return included

    def _paths(self, file: SourceFile, document: Document) -> list[str]:
        written = document["include"]
        paths = written if isinstance(written, list) else [written]
        if all(isinstance(path, str) for path in paths):
            return [str(path) for path in paths]
        return []

    def _include(self, file: SourceFile, path: str, index: int, within: tuple[str, ...]) -> Document | None:
        name = (
            path
            if path.startswith(("/", "~"))
            else posixpath.normpath(posixpath.join(posixpath.dirname(file.name), path))
        )
        if name in within:
            self._complain(file, index, "include-cycle", "files include each other", " includes ".join((*within, name)))
            return None
        if name in self._read:
            return {}
        try:
            content = self._read_file(path, file.name)
        except OSError as exc:
            self._complain(
                file, index, "file-unreadable", f"`{path}` cannot be read", (exc.strerror or str(exc)).lower()
            )
            return None
        return self.read(SourceFile(name, content), within)

    def _complain(self, file: SourceFile, index: int, id: str, summary: str, label: str) -> None:
        self._sources.add(file)
        at = At(("include", index))
        # Now, and not when it is shown: another file may have an `include` of its own.
        self._sink.add(Diagnostic(id, summary, (Label(self._sources.locate(at) or at, label),)))
