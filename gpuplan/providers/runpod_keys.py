"""The SSH keys of a RunPod account. RunPod knows them as one list, which is read and written as a whole."""

from collections.abc import Sequence

from gpuplan.net.api import Api
from gpuplan.net.profile import Effect
from gpuplan.providers.runpod_wire import Key, KeyList

ROUTE = "/v2/account/ssh-keys"


class KeyRing:
    """Keys as objects of their own, each a line of the list."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def read(self, to: str) -> Sequence[Key]:
        answer = await self._api.call("GET", ROUTE, answer=KeyList, to=to)
        return [Key(line) for line in answer.keys]

    async def find(self, id: str, to: str) -> Key | None:
        return next((key for key in await self.read(to) if key.id == id), None)

    async def add(self, line: str, to: str) -> Key:
        async with self._api.alone(ROUTE):
            await self._write([*await self.read(to), Key(line)], to)
        return Key(line)

    async def remove(self, id: str, to: str) -> None:
        """What is gone already is success."""
        async with self._api.alone(ROUTE):
            keys = await self.read(to)
            left = [key for key in keys if key.id != id]
            if len(left) < len(keys):
                await self._write(left, to)

    async def _write(self, keys: Sequence[Key], to: str) -> None:
        # Sent once more later, the whole list would undo what others did meanwhile.
        lines = [key.line for key in keys]
        await self._api.call("PUT", ROUTE, json={"keys": lines}, effect=Effect.ONCE, to=to)
