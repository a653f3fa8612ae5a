"""Alibaba Cloud's way with parameters and answers: flat names, wrapped lists, errors that only their code tells."""

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from gpuplan.core.values import JsonValue
from gpuplan.emulators.http import Answerer, Json, Refusal, Response, Routes
from gpuplan.emulators.site import Site

T = TypeVar("T")

HOST = "ecs.aliyuncs.com"
REQUEST = "8A9B0C1D-2E3F-4A5B-8C6D-7E8F9A0B1C2D"


class Refused(Refusal):
    """A refusal in Alibaba's words."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(refusal(status, code, text))


def refusal(status: int, code: str, text: str) -> Response:
    body: Json = {"RequestId": REQUEST, "HostId": HOST, "Code": code, "Message": text}
    return Response(status, body, {"x-acs-request-id": REQUEST})


def error(status: int, text: str) -> Response:
    """Errors that are not about one object. A key that is nobody's is told with status 404, haste with 400."""
    match status:
        case 401:
            return refusal(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
        case 404:
            return refusal(404, "InvalidAction.NotFound", "Specified api is not found, please check your url.")
        case 429:
            return refusal(400, "Throttling.User", "Request was denied due to user flow control.")
        case 503:
            return refusal(503, "ServiceUnavailable", "The request has failed due to a temporary failure.")
    return refusal(status, "InternalError" if status >= 500 else "InvalidParameter", text)


def answer(site: Site, **body: JsonValue) -> Response:
    return Response(200, {"RequestId": str(uuid.UUID(int=site.world.random.getrandbits(128))).upper(), **body})


def action(routes: Routes, name: str) -> Callable[[Answerer], Answerer]:
    """Register the function below for an action; which of the two methods is used makes no difference."""

    def register(answerer: Answerer) -> Answerer:
        return routes.on("GET", name)(routes.on("POST", name)(answerer))

    return register


class Asked:
    """The parameters of one action."""

    def __init__(self, told: Mapping[str, str]) -> None:
        self._told = told

    def text(self, name: str, *, required: bool = False) -> str:
        value = self._told.get(name, "")
        if required and not value:
            raise Refused(400, f"MissingParameter.{name}", f"The input parameter {name} is mandatory for this action.")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        """Clients write them in any case."""
        value = self._told.get(name, "").lower()
        if value not in ("", "true", "false"):
            raise unfit(name)
        return value == "true" if value else default

    def number(self, name: str, default: int = 0) -> int:
        value = self._told.get(name, "")
        if value and not re.fullmatch(r"-?\d+", value):
            raise unfit(name)
        return int(value) if value else default

    def texts(self, name: str) -> list[str]:
        """`Name.1`, `Name.2`, in their order."""
        numbered = (re.fullmatch(rf"{re.escape(name)}\.(\d+)", key) for key in self._told)
        return [self._told[found[0]] for found in sorted(filter(None, numbered), key=lambda found: int(found[1]))]

    def array(self, name: str) -> list[str] | None:
        """A list that is written as JSON; None when it is not there, an empty one matches nothing."""
        if (text := self._told.get(name)) is None:
            return None
        try:
            value = json.loads(text)
        except ValueError as exc:
            raise Refused(400, f"Invalid{name}.Malformed", f"The specified {name} is not a JSON array.") from exc
        if not isinstance(value, list) or len(value) > 100:
            raise Refused(400, f"Invalid{name}.Malformed", f"The specified {name} has more than 100 entries.")
        return [str(item) for item in value]

    def tags(self, name: str = "Tag") -> dict[str, str]:
        """`Tag.1.Key` and `Tag.1.Value`."""
        found = {}
        for number in range(1, 21):
            key = self._told.get(f"{name}.{number}.Key")
            if key is None:
                continue
            if not key or len(key) > 128 or key.startswith(("aliyun", "acs:")) or "http://" in key or "https://" in key:
                raise Refused(400, "InvalidTagKey.Malformed", "The specified Tag.n.Key is not valid.")
            found[key] = self._told.get(f"{name}.{number}.Value", "")
        if f"{name}.21.Key" in self._told:
            raise Refused(400, "InvalidTagCount", "The specified tags are beyond the permitted range.")
        return found

    @property
    def all(self) -> Mapping[str, str]:
        return self._told


def unfit(name: str) -> Refused:
    return Refused(400, f"InvalidParameter.{name}", f"The specified parameter {name} is not valid.")


def pages_by_token(
    site: Site, asked: Asked, items: Sequence[T], name: str, show: Callable[[T], JsonValue], **more: JsonValue
) -> Response:
    """One page of a listing: 10 items unless more are asked for, and never more than 100."""
    wanted = min(max(asked.number("MaxResults", 10), 10), 100, site.count("most_per_page"))
    token = asked.text("NextToken")
    start = int(token) if token.isdigit() else 0
    following = str(start + wanted) if start + wanted < len(items) else ""
    shown: JsonValue = [show(item) for item in items[start : start + wanted]]
    listed: Json = {f"{name}s": {name: shown}, "NextToken": following, **more}
    return answer(site, **listed)


def pages_by_number(
    site: Site,
    asked: Asked,
    items: Sequence[T],
    wrapper: str,
    name: str,
    show: Callable[[T], JsonValue],
    most: int = 50,
) -> Response:
    size, number = min(max(asked.number("PageSize", 10), 1), most), max(asked.number("PageNumber", 1), 1)
    shown: JsonValue = [show(item) for item in items[(number - 1) * size : number * size]]
    listed: Json = {wrapper: {name: shown}, "PageNumber": number, "PageSize": size, "TotalCount": len(items)}
    return answer(site, **listed)


def show_tags(tags: Mapping[str, JsonValue]) -> JsonValue:
    """They come back under other names than they were sent."""
    return {"Tag": [{"TagKey": key, "TagValue": value} for key, value in tags.items()]}


def minute(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%MZ")
