"""One emulated cluster: its objects by kind, namespace and name, their versions, and the changes that watches tell.

Verbs of the API and controllers alike read and write here. Whatever somebody made stands in the world's ledger too.
"""

import copy
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from gpuplan.core.values import JsonValue
from gpuplan.emulators.kubernetes_fields import Tree
from gpuplan.emulators.kubernetes_resources import BY_KIND, Resource
from gpuplan.emulators.site import Site
from gpuplan.emulators.world import Thing

KEPT_CHANGES = 5000
FIRST_VERSION = 100
NAMESPACES = ("default", "kube-system", "kube-public")


@dataclass(slots=True, eq=False)
class Stored:
    """One object. `tree` is what the API shows of it, `hidden` what controllers remember about it."""

    resource: Resource
    tree: Tree
    thing: Thing | None = None
    hidden: dict[str, Any] = field(default_factory=dict)

    @property
    def meta(self) -> Tree:
        meta: Tree = self.tree["metadata"]
        return meta

    @property
    def name(self) -> str:
        return str(self.meta["name"])

    @property
    def namespace(self) -> str:
        return str(self.meta.get("namespace", ""))

    @property
    def uid(self) -> str:
        return str(self.meta["uid"])

    @property
    def spec(self) -> Tree:
        spec: Tree = self.tree.setdefault("spec", {})
        return spec

    @property
    def status(self) -> Tree:
        status: Tree = self.tree.setdefault("status", {})
        return status

    @property
    def is_leaving(self) -> bool:
        return "deletionTimestamp" in self.meta

    @property
    def owner(self) -> str:
        """The uid of the controller that made it; empty without one."""
        return next((str(o["uid"]) for o in self.meta.get("ownerReferences", ()) if o.get("controller")), "")

    def is_owned_by(self, other: "Stored") -> bool:
        return any(each["uid"] == other.uid for each in self.meta.get("ownerReferences", ()))


@dataclass(frozen=True, slots=True)
class Change:
    """What a watch tells: ADDED, MODIFIED or DELETED, and the object as it was then."""

    version: int
    type: str
    kind: str
    tree: Tree


class Cluster:
    """The objects of one API server."""

    def __init__(self, site: Site, account: str) -> None:
        self.account = account
        self.version = FIRST_VERSION
        self.changes: deque[Change] = deque(maxlen=KEPT_CHANGES)
        self.forgotten = FIRST_VERSION
        """The newest version that no watch can begin at any more."""
        self.is_restless = True
        """Something has changed that controllers have not looked at."""
        self.due: datetime | None = None
        """When something happens by itself."""
        self.seen: tuple[object, ...] = ()
        """What lies outside of the cluster and decides about it, as it was at the last look."""
        self._objects: dict[str, dict[tuple[str, str], Stored]] = {kind: {} for kind in BY_KIND}
        for name in NAMESPACES:
            self.add(site, namespace_tree(name))

    def find(self, kind: str, namespace: str, name: str) -> Stored | None:
        return self._objects[kind].get((namespace, name))

    def all(self, kind: str, namespace: str = "") -> list[Stored]:
        """Those of one namespace, or of all; by namespace and name, as listings have them."""
        kept = self._objects[kind]
        return [kept[key] for key in sorted(kept) if namespace in ("", key[0])]

    def every(self) -> Iterator[Stored]:
        for kept in self._objects.values():
            yield from list(kept.values())

    def owned(self, kind: str, owner: Stored) -> list[Stored]:
        return [each for each in self.all(kind, owner.namespace) if each.owner == owner.uid]

    def add(self, site: Site, tree: Tree) -> Stored:
        """A new object, with all that the server fills in."""
        resource = BY_KIND[tree["kind"]]
        meta = tree.setdefault("metadata", {})
        meta.setdefault("uid", site.uuid())
        meta["creationTimestamp"] = stamp(site.now)
        if resource.has_generation:
            meta["generation"] = 1
        stored = Stored(resource, tree)
        if resource.ledger and not (resource.kind == "Namespace" and stored.name in NAMESPACES):
            stored.thing = site.add(resource.ledger, stored.uid, self.account, tree, name=stored.name)
        self._objects[resource.kind][stored.namespace, stored.name] = stored
        self._note("ADDED", stored)
        return stored

    def replace(self, stored: Stored, tree: Tree) -> bool:
        """The object as it is now; False when nothing about it has changed."""
        before = {**stored.tree, "metadata": {**stored.meta, "resourceVersion": ""}}
        if before == {**tree, "metadata": {**tree["metadata"], "resourceVersion": ""}}:
            return False
        if stored.resource.has_generation and before.get("spec") != tree.get("spec"):
            tree["metadata"]["generation"] = int(stored.meta.get("generation", 0)) + 1
        # The ledger holds the same mapping.
        fresh = copy.deepcopy(tree)
        stored.tree.clear()
        stored.tree.update(fresh)
        self._note("MODIFIED", stored)
        return True

    def set_status(self, stored: Stored, status: Tree) -> None:
        if stored.tree.get("status") != status:
            stored.tree["status"] = status
            self._note("MODIFIED", stored)

    def set_meta(self, stored: Stored, **fields: JsonValue) -> None:
        """Set fields of the metadata; None takes one away."""
        before = dict(stored.meta)
        for name, value in fields.items():
            if value is None:
                stored.meta.pop(name, None)
            else:
                stored.meta[name] = value
        if before != stored.meta:
            self._note("MODIFIED", stored)

    def touch(self, stored: Stored) -> None:
        """It was changed in place."""
        self._note("MODIFIED", stored)

    def remove(self, site: Site, stored: Stored) -> None:
        if self._objects[stored.resource.kind].pop((stored.namespace, stored.name), None) is None:
            return
        if stored.thing is not None:
            site.remove(stored.thing)
        self._note("DELETED", stored)

    def drop_vanished(self, site: Site) -> None:
        """What was taken out of the world by the emulator's own control API."""
        for stored in self.every():
            if stored.thing is not None and stored.thing.deleted_at is not None:
                self.remove(site, stored)

    def forget_changes(self) -> None:
        """No watch can go on from where it was."""
        self.changes.clear()
        self.forgotten = self.version

    def due_in(self, now: datetime, seconds: float) -> None:
        """Look again at that time, if not before."""
        moment = now + timedelta(seconds=max(0.0, seconds))
        self.due = moment if self.due is None else min(self.due, moment)

    def event(self, site: Site, about: Stored, reason: str, message: str, *, type: str = "Warning") -> None:
        """Say something about an object; the same again only counts up."""
        name = f"{about.name}.{reason.lower()}"
        known = self.find("Event", about.namespace, name)
        if known is not None and known.tree["message"] == message:
            return
        if known is not None:
            self.remove(site, known)
        regarding = {"kind": about.resource.kind, "namespace": about.namespace, "name": about.name, "uid": about.uid}
        self.add(
            site,
            {
                "kind": "Event",
                "apiVersion": "v1",
                "metadata": {"name": name, "namespace": about.namespace},
                "involvedObject": {**regarding, "apiVersion": about.resource.api_version},
                "reason": reason,
                "message": message,
                "type": type,
                "source": {},
                "firstTimestamp": None,
                "lastTimestamp": None,
                "eventTime": f"{stamp(site.now)[:-1]}.000000Z",
                "reportingComponent": "emulator",
                "reportingInstance": "emulator",
                "action": "",
            },
        )

    def _note(self, type: str, stored: Stored) -> None:
        self.version += 1
        self.is_restless = True
        stored.meta["resourceVersion"] = str(self.version)
        if len(self.changes) == KEPT_CHANGES:
            self.forgotten = self.changes[0].version
        self.changes.append(Change(self.version, type, stored.resource.kind, copy.deepcopy(stored.tree)))


def cluster_of(site: Site, account: str) -> Cluster:
    """The cluster a token is for; every token has one of its own."""
    key = (site.type.name, account)
    cluster = site.world.drawers.get(key)
    if not isinstance(cluster, Cluster):
        cluster = site.world.drawers[key] = Cluster(site, account)
    return cluster


def stamp(moment: datetime) -> str:
    """As the API writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_since(text: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(text)).total_seconds()


def namespace_tree(name: str) -> Tree:
    labels = {"kubernetes.io/metadata.name": name}
    return {
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": {"name": name, "labels": labels},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def owner_reference(owner: Stored) -> Tree:
    return {
        "apiVersion": owner.resource.api_version,
        "kind": owner.resource.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
