"""Keeps the warm parents of this node (`services/scorer/model_worker/warm_parent.py`): which there are, and that they live."""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from pydantic import TypeAdapter, ValidationError

from services.cli.child import Child, ChildSpec
from services.cli.keeper_link import KeeperLink
from services.cli.places import StatePlaces
from services.cli.plan import ChildState
from services.cli.warm_choice import WarmEnvironment, choose_warm
from services.scorer.environment import environment_folder, read_mark
from services.scorer.fresh_worker import START
from services.scorer.imported_modules import imports_file
from services.scorer.worker_spec import bare_environment
from services.shared.node import warm_socket

FILE_NAME = "warm.json"
LOOK_EVERY_S = 30.0
GRACE_S = 2.0
TRIES = 3  # of a parent that was never ready
_DIGEST = re.compile(r"[0-9a-f]{32}")
_FILE = TypeAdapter(list[WarmEnvironment])

log = logging.getLogger(__name__)


class WarmParents:
    """Those of environments in use here (`use`), from when the stack is ready until `keep` is cancelled."""

    def __init__(
        self,
        places: StatePlaces,
        most: int,
        limit_bytes: int,
        keeper: KeeperLink,
        children: dict[str, Child],
        changed: Callable[[Child], None],
    ) -> None:
        """`children` is the supervisor's own list of processes: parents are on it while they are there."""
        self._places, self._state = places, places.root
        self._most = most
        self._limit_bytes = limit_bytes
        self._keeper = keeper
        self._children = children
        self._changed = changed
        self._known = _read(self._state / FILE_NAME)
        self._parents: dict[str, Child] = {}
        self._imported: dict[str, int] = {}  # what a parent's file of names was when it began, by its time
        self._proven: set[str] = set()  # were ready once
        self._keeping = False

    def use(self, request: dict[str, Any]) -> dict[str, Any]:
        """A worker of this environment was started; the reply says why it can have no parent, if that is known.

        A worker that needed what its parent has not imported makes that begin anew.
        """
        digest = str(request["environment"])
        if not _DIGEST.fullmatch(digest):
            raise ValueError("not an environment")
        known = self._known.get(digest) or WarmEnvironment(digest=digest, used_at=0)
        self._known[digest] = known.model_copy(update={"used_at": time.time()})
        if digest in self._parents and self._imported[digest] != self._imports_at(digest):
            self._release(digest, "its models need more modules")
        self._apply()
        return {"unforkable": self._known[digest].unforkable}

    async def keep(self) -> None:
        """Start those there were, and look after them."""
        self._keeping = True
        try:
            while True:
                self._measure()
                self._apply()
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            self._keeping = False  # the supervisor stops what is there, in its order

    def _apply(self) -> None:
        if not self._keeping:
            return
        there = [one for one in self._known.values() if read_mark(self._state, one.digest) is not None]
        chosen = choose_warm(there, time.time(), self._most, self._limit_bytes)
        for digest in self._parents.keys() - chosen:
            self._release(digest, "not used lately, or too many or too large")
        for digest in chosen:
            if digest not in self._parents:
                self._start(digest)
        self._write()

    def _start(self, digest: str) -> None:
        spec = warm_spec(self._places, digest)
        child = Child(spec, self._keeper, lambda child: self._watch(digest, child), lambda _: self._forget(digest))
        self._imported[digest] = self._imports_at(digest)
        self._parents[digest] = self._children[child.spec.name] = child
        child.start()

    def _release(self, digest: str, reason: str) -> None:
        log.info("warm parent is released", extra={"environment": digest, "reason": reason})
        self._parents[digest].ask_to_stop()

    def _watch(self, digest: str, child: Child) -> None:
        self._changed(child)
        if child.state is ChildState.READY:
            self._proven.add(digest)
            self._known[digest] = self._known[digest].model_copy(update={"unforkable": ""})
        elif child.state is ChildState.BACKING_OFF and digest not in self._proven and child.restarts + 1 >= TRIES:
            self._give_up(digest, f"Its warm parent ended {TRIES} times before it was ready.")
            child.ask_to_stop()

    def _forget(self, digest: str) -> None:
        """It has ended: released, or by itself because what it imported cannot be forked."""
        child = self._parents.pop(digest)
        self._children.pop(child.spec.name)
        warm_socket(self._state, digest).unlink(missing_ok=True)
        if not child.was_asked_to_stop:
            self._give_up(digest, f"Its warm parent ended by itself; see {child.spec.log_file.name}.")
        self._apply()

    def _give_up(self, digest: str, reason: str) -> None:
        log.warning("environment has no warm parent", extra={"environment": digest, "reason": reason})
        self._known[digest] = self._known[digest].model_copy(update={"unforkable": reason, "given_up_at": time.time()})

    def _measure(self) -> None:
        for digest, child in self._parents.items():
            if child.pid is not None and child.state is ChildState.READY:
                try:
                    memory_bytes = psutil.Process(child.pid).memory_info().rss
                except psutil.Error:
                    continue  # ended just now: what it took is known from before
                self._known[digest] = self._known[digest].model_copy(update={"memory_bytes": memory_bytes})

    def _imports_at(self, digest: str) -> int:
        file = imports_file(environment_folder(self._state, digest))
        return file.stat().st_mtime_ns if file.exists() else 0

    def _write(self) -> None:
        whole = self._state / f"{FILE_NAME}.new"
        try:
            whole.write_bytes(_FILE.dump_json(list(self._known.values())))
            whole.replace(self._state / FILE_NAME)
        except OSError as error:  # a full disk: the next start of the stack begins without them
            log.warning("warm environments not written down", extra={"reason": str(error)})


def warm_spec(places: StatePlaces, environment: str) -> ChildSpec:
    """Of the environment with this digest. Nothing of the stack is told to it but where to listen."""
    folder = environment_folder(places.root, environment)
    python, name = folder / "bin" / "python", f"warm-{environment[:8]}"
    listening = warm_socket(places.root, environment)
    return ChildSpec(
        name=name,
        command=[str(python), "-s", str(START), "warm", str(listening), str(imports_file(folder))],
        environment=bare_environment(python),
        log_file=places.log_of(name),
        grace_s=GRACE_S,
        may_leave=True,
        must_start=False,
    )


def _read(file: Path) -> dict[str, WarmEnvironment]:
    try:
        return {one.digest: one for one in _FILE.validate_json(file.read_bytes())}
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        log.warning("warm environments cannot be read", extra={"reason": str(error)})
        return {}
