"""What the nodes of a cluster print: one after the other, or all at once while they print it.

A stream ends when its container does, or when the log is turned over: it is then taken up where it was.
"""

from collections.abc import AsyncIterator, Sequence

from gpuplan.core.errors import Conflict, NotFound
from gpuplan.providers.kubernetes_api import PODS, KubernetesApi
from gpuplan.providers.kubernetes_wire import MAIN, Pod

_PAUSE_SECONDS = 2.0
_SILENCE_SECONDS = 24 * 3600.0
"""A container that works may say nothing for long."""


async def lines_of(api: KubernetesApi, pods: Sequence[Pod], *, follow: bool, tail: int | None) -> AsyncIterator[str]:
    """The lines of some pods; with `follow` for as long as any of them is there."""
    logs = [PodLog(api, pod) for pod in pods]
    if not follow:
        lines = await api.http.together(log.lines(tail=tail) for log in logs)
        for line in merged(list(zip(pods, lines, strict=True)), tail):
            yield line
        return
    async for line in api.http.merged([log.follow(tail=tail, is_named=len(logs) > 1) for log in logs]):
        yield line


class PodLog:
    """The log of one pod."""

    def __init__(self, api: KubernetesApi, pod: Pod) -> None:
        self._api = api
        self._pod = pod
        names = [container.name for container in pod.spec.containers]
        self._container = MAIN if MAIN in names else names[0] if names else ""

    async def lines(self, *, tail: int | None) -> list[tuple[str, str]]:
        """What is there, each line with its time."""
        try:
            return [_parted(line) async for line in self._stream(follow=False, tail=tail, since="")]
        except (Conflict, NotFound):
            # Nothing runs there yet, or any more.
            return []

    async def follow(self, *, tail: int | None, is_named: bool) -> AsyncIterator[str]:
        """Line after line, as long as the pod is there."""
        since, told = "", set[str]()
        name = f"{self._pod.metadata.name}: " if is_named else ""
        while True:
            try:
                async for line in self._stream(follow=True, tail=tail, since=since):
                    moment, text = _parted(line)
                    if moment == since and line in told:
                        continue
                    told = {line} if moment != since else {*told, line}
                    since = moment
                    yield f"{name}{text}"
            except (Conflict, NotFound):
                pass
            if not await self._is_there():
                return
            tail = None if since else tail
            await self._api.clock.sleep(_PAUSE_SECONDS)

    async def _is_there(self) -> bool:
        """Whether there may be more: another container of the same pod, or a pod of the same name."""
        meta = self._pod.metadata
        found = await self._api.find(PODS, meta.remote_id, to=f"look at {meta.name}")
        return found is not None and found.metadata.deletion_timestamp is None

    def _stream(self, *, follow: bool, tail: int | None, since: str) -> AsyncIterator[str]:
        meta = self._pod.metadata
        return self._api.log_lines(
            meta.namespace,
            meta.name,
            container=self._container,
            follow=follow,
            tail=tail,
            since=since,
            seconds=_SILENCE_SECONDS if follow else 60.0,
        )


def merged(found: Sequence[tuple[Pod, list[tuple[str, str]]]], tail: int | None) -> list[str]:
    """The lines of several pods by their times, each under the name of its pod where there is more than one."""
    several = len(found) > 1
    dated = [
        (moment, f"{pod.metadata.name}: {text}" if several else text) for pod, lines in found for moment, text in lines
    ]
    dated.sort(key=lambda line: line[0])
    texts = [text for _, text in dated]
    return texts if tail is None else texts[max(0, len(texts) - tail) :]


def _parted(line: str) -> tuple[str, str]:
    moment, _, text = line.partition(" ")
    return moment, text
