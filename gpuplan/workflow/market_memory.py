"""What was learnt of the markets a moment ago: offers, and places where no node could be had.

Private files in the user's cache folder, by account: `planning` and `market` spare a provider the same question twice,
and the next plan avoids what has just failed. Losing them costs nothing, so whatever is wrong with them is ignored.
Nothing is kept of a rehearsal.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, replace
from datetime import datetime, timedelta
from decimal import InvalidOperation
from pathlib import Path
from typing import NamedTuple

from gpuplan.core.capabilities import ProviderKind
from gpuplan.core.desired import Configuration, ProviderBlock
from gpuplan.core.encoding import decode_time, encode_time
from gpuplan.core.offers import FailedPlace, Offer, OfferQuery
from gpuplan.core.ports import Clock
from gpuplan.plan.encoding import offer_document
from gpuplan.plan.offers import AVOIDED_SECONDS
from gpuplan.workflow.project import Project

_MARKETS = frozenset({ProviderKind.CLOUD, ProviderKind.MARKETPLACE, ProviderKind.DEPIN})
_OFFERS = "offers"
FRESH_SECONDS = 30.0
"""How long offers are as good as new."""


class Told(NamedTuple):
    """What an account answered, and when it did."""

    offers: Sequence[Offer]
    at: datetime
    is_remembered: bool = False


class MarketMemory:
    """`reuse` False: nothing that is remembered counts as an answer, as for an apply; what is learnt is kept."""

    def __init__(self, project: Project, clock: Clock, *, reuse: bool = True) -> None:
        self._folder = _folder(project)
        self._clock = clock
        self._reuse = reuse

    def offers(self, block: ProviderBlock, query: OfferQuery) -> Told | None:
        """The answer to the same question, if it is fresh enough."""
        if self._folder is None or not self._reuse:
            return None
        try:
            content = self._offers_file(self._folder, block, query).read_bytes()
        except OSError:
            return None
        from pydantic import TypeAdapter, ValidationError

        from gpuplan.plan.decoding import offer_of
        from gpuplan.plan.shapes import OfferDocument

        try:
            kept = json.loads(content)
            at = decode_time(kept["at"])
            if not 0 <= (self._clock.now() - at).total_seconds() < FRESH_SECONDS:
                return None
            documents = TypeAdapter(list[OfferDocument]).validate_python(kept["offers"])
            # Another project may have another name for the account.
            offers = [replace(offer_of(document), provider=block.name) for document in documents]
            return Told(offers, at, is_remembered=True)
        except (ValueError, KeyError, TypeError, InvalidOperation, ValidationError):
            return None

    def keep_offers(self, block: ProviderBlock, query: OfferQuery, offers: Iterable[Offer], kind: ProviderKind) -> None:
        """What a machine of one's own has to offer is not kept: it is there to be asked, and to change."""
        if self._folder is None or kind not in _MARKETS:
            return
        file, now = self._offers_file(self._folder, block, query), self._clock.now()
        _forget(file.parent, now - timedelta(seconds=FRESH_SECONDS))
        _write(file, {"at": encode_time(now), "offers": [offer_document(offer) for offer in offers]})

    def forget_offers(self) -> None:
        """After a run: what it took is not on offer any more."""
        if self._folder is not None:
            _forget(self._folder / _OFFERS)

    def failed(self, configuration: Configuration) -> list[FailedPlace]:
        """The places of all configured accounts that failed lately."""
        return [one for block in configuration.providers.values() for one in self._failed(block)]

    def keep_failed(self, configuration: Configuration, failed: Iterable[FailedPlace]) -> None:
        """Remember more of them; the latest failure of a place counts."""
        by_provider: dict[str, list[FailedPlace]] = {}
        for one in failed:
            by_provider.setdefault(one.provider, []).append(one)
        for name, places in by_provider.items():
            block = configuration.providers.get(name)
            if block is not None and self._folder is not None:
                latest = {one.place: one for one in (*self._failed(block), *places)}
                rows = [[one.place, encode_time(one.failed_at), one.why] for one in latest.values()]
                _write(self._failed_file(self._folder, block), rows)

    def _failed(self, block: ProviderBlock) -> list[FailedPlace]:
        if self._folder is None:
            return []
        since = self._clock.now() - timedelta(seconds=AVOIDED_SECONDS)
        try:
            rows = json.loads(self._failed_file(self._folder, block).read_bytes())
            kept = [FailedPlace(block.name, str(place), decode_time(at), str(why)) for place, at, why in rows]
        except (OSError, ValueError, TypeError, AttributeError):
            return []
        return [one for one in kept if one.failed_at > since]

    def _offers_file(self, folder: Path, block: ProviderBlock, query: OfferQuery) -> Path:
        return folder / _OFFERS / f"{_account(block)}-{_digest(astuple(query))}.json"

    def _failed_file(self, folder: Path, block: ProviderBlock) -> Path:
        return folder / "failed" / f"{_account(block)}.json"


def _folder(project: Project) -> Path | None:
    """None: nothing is kept, because this is a rehearsal or nobody is at home."""
    if project.emulator or project.backend is not None:
        return None
    environ: Mapping[str, str] = project.environ
    if cache := environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "gpuplan"
    return Path(home) / ".cache" / "gpuplan" if (home := environ.get("HOME")) else None


def _account(block: ProviderBlock) -> str:
    """By what leads to the account, so that blocks of several projects share it. Two keys of one provider see the same
    market."""
    return _digest([block.type, block.options])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _forget(folder: Path, until: datetime | None = None) -> None:
    """Remove what was written before a time, or everything."""
    with suppress(OSError):
        for file in folder.iterdir():
            if until is None or file.stat().st_mtime < until.timestamp():
                file.unlink()


def _write(file: Path, content: object) -> None:
    """As a whole or not at all, readable for nobody else."""
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            json.dump(content, opened)
        draft.replace(file)
