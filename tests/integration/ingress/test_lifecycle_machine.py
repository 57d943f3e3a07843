"""The lifecycle of endpoints (databricks_surface §6) through the API of two ingress processes, held against a model in memory.

The model is written from the document, not from the fold. After each step either process must show exactly what it says, each
answer must be as the OpenAPI document says, and what was refused must have changed nothing.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from services.ingress.api_document import api_document
from services.shared.clock import now_ms
from services.shared.control_events import EntityFailed, EntityReady
from tests.integration.ingress.ingresses import MODEL, VERSIONS, Ingresses

ENDPOINTS = "/api/2.0/serving-endpoints"
DOCUMENT = schemathesis.openapi.from_dict(api_document())
CREATING, READY, FAILED, ABORTED = "DEPLOYMENT_CREATING", "DEPLOYMENT_READY", "DEPLOYMENT_FAILED", "DEPLOYMENT_ABORTED"

NAMES = st.sampled_from(["churn", "churn", "churn", "fraud"])  # runs get further with one than with two
ENTITIES = st.sampled_from(["a", "b"])


@dataclass(frozen=True)
class Plan:
    """A config as a caller sends it: model version and share by served entity."""

    entities: Mapping[str, tuple[str, int]]

    def body(self) -> dict[str, Any]:
        return {
            "served_entities": [{"name": n, "entity_name": MODEL, "entity_version": v} for n, (v, _) in self.entities.items()],
            "traffic_config": {"routes": [{"served_entity_name": n, "traffic_percentage": s} for n, (_, s) in self.entities.items()]},
        }


def _plan(versions: list[str], first: int) -> Plan:
    shares = [100] if len(versions) == 1 else [first, 100 - first]
    return Plan({name: (version, share) for name, version, share in zip("ab", versions, shares, strict=False)})


PLANS = st.builds(_plan, st.lists(st.sampled_from(VERSIONS), min_size=1, max_size=2), st.integers(0, 100))


@dataclass
class Deployment:
    """A config on its way or in service."""

    version: int
    plan: Plan
    states: dict[str, str]


@dataclass
class Life:
    """What the document says of one endpoint."""

    endpoint_id: str
    latest: int
    update: str
    active: Deployment | None = None
    pending: Deployment | None = None
    stopped: bool = False
    seen: list[str] = field(default_factory=list)

    @property
    def serving(self) -> Deployment | None:
        return None if self.stopped else self.active

    def deploy(self, plan: Plan) -> None:
        """An entity that serves as it is goes on, so that a change of traffic alone is done at once."""
        kept = self.serving.plan.entities if self.serving else {}
        same = {name for name, (version, _) in plan.entities.items() if name in kept and kept[name][0] == version}
        self.latest += 1
        self.pending = Deployment(self.latest, plan, {name: READY if name in same else CREATING for name in plan.entities})
        self.update = "IN_PROGRESS"
        self.switch_if_ready()

    def switch_if_ready(self) -> None:
        if self.pending and set(self.pending.states.values()) == {READY}:
            self.active, self.pending, self.update, self.stopped = self.pending, None, "NOT_UPDATING", False

    def end(self, update: str, culprit: str | None, state: str = ABORTED) -> None:
        assert self.pending is not None
        self.update = update
        self.pending.states = {name: state if name == culprit else ABORTED for name in self.pending.states}


class Lifecycle(RuleBasedStateMachine):
    def __init__(self, ingresses: Ingresses, token: str) -> None:
        super().__init__()
        self.log = ingresses.log
        headers = {"Authorization": f"Bearer {token}"}
        self.clients = [httpx.Client(base_url=host, headers=headers, timeout=30, trust_env=False) for host in ingresses.hosts]
        self.prefix = uuid4().hex[:8]
        self.lives: dict[str, Life] = {}
        self.asked = 0

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, client: int | None = None, **where: str) -> httpx.Response:
        """By turns to one process and the other. `path` as in the document."""
        self.asked += 1
        at = self.clients[self.asked % 2 if client is None else client]
        answer = at.request(method, path.format(**where), json=body)
        DOCUMENT[path][method].validate_response(answer)
        return answer

    def name(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def command(self, name: str, action: str) -> httpx.Response:
        return self.call("POST", f"{ENDPOINTS}/{{name}}/{action}", name=self.name(name))

    def expect(self, answer: httpx.Response, status: int, code: str = "") -> None:
        assert (answer.status_code, answer.json().get("error_code", "")) == (status, code), answer.text

    @property
    def under_way(self) -> list[str]:
        return [name for name, life in self.lives.items() if life.update == "IN_PROGRESS"]

    @initialize(plan=PLANS)
    def one_serves(self, plan: Plan) -> None:
        self.create("churn", plan)
        self.deployed()

    @rule(name=NAMES, plan=PLANS)
    def create(self, name: str, plan: Plan) -> None:
        answer = self.call("POST", ENDPOINTS, {"name": self.name(name), "config": plan.body()})
        if name in self.lives:
            self.expect(answer, 409, "RESOURCE_ALREADY_EXISTS")
        else:
            self.expect(answer, 200)
            self.born(name, plan, answer)

    @precondition(lambda self: len(self.lives) < 2)
    @rule(plan=PLANS)
    def create_twice_at_once(self, plan: Plan) -> None:
        name = next(name for name in ("churn", "fraud") if name not in self.lives)
        body = {"name": self.name(name), "config": plan.body()}
        first, second = self.at_once(lambda client: self.call("POST", ENDPOINTS, body, client))
        self.expect(second, 409, "RESOURCE_ALREADY_EXISTS")
        self.born(name, plan, first)

    def born(self, name: str, plan: Plan, answer: httpx.Response) -> None:
        life = Life(answer.json()["id"], 0, "IN_PROGRESS")
        life.deploy(plan)
        self.lives[name] = life

    @rule(name=NAMES, plan=PLANS)
    def change(self, name: str, plan: Plan) -> None:
        answer = self.call("PUT", f"{ENDPOINTS}/{{name}}/config", plan.body(), name=self.name(name))
        life = self.lives.get(name)
        if life is None:
            self.expect(answer, 404, "RESOURCE_DOES_NOT_EXIST")
        elif life.update == "IN_PROGRESS":
            self.expect(answer, 409, "RESOURCE_CONFLICT")
        else:
            self.expect(answer, 200)
            life.deploy(plan)

    @rule(name=NAMES, version=st.sampled_from(VERSIONS))
    def change_twice_at_once(self, name: str, version: str) -> None:
        """To an entity that does not serve, so that the first of them is under way when the second comes."""
        life = self.lives.get(name)
        if life is None or life.update == "IN_PROGRESS":
            return
        plan = Plan({f"c{life.latest}": (version, 100)})
        path = f"{ENDPOINTS}/{{name}}/config"
        _, second = self.at_once(lambda client: self.call("PUT", path, plan.body(), client, name=self.name(name)))
        self.expect(second, 409, "RESOURCE_CONFLICT")
        life.deploy(plan)

    def at_once(self, call: Any) -> tuple[httpx.Response, httpx.Response]:
        """Each process is asked; the answer of the one that won comes first."""
        with ThreadPoolExecutor(2) as threads:
            answers = sorted(threads.map(call, (0, 1)), key=lambda answer: answer.status_code)
        self.expect(answers[0], 200)
        return answers[0], answers[1]

    @rule(name=NAMES, entity=ENTITIES, old=st.sampled_from([0, 0, 0, 1]))
    def report_ready(self, name: str, entity: str, old: int) -> None:
        if life := self.lives.get(name):
            entity = self.any_entity(life, entity)
            self.log.append(EntityReady(at_ms=now_ms(), endpoint_id=life.endpoint_id, version=life.latest - old, entity=entity))
            if self.is_awaited(life, entity, old):
                assert life.pending is not None
                life.pending.states[entity] = READY
                life.switch_if_ready()

    @precondition(lambda self: self.under_way)
    @rule()
    def deployed(self) -> None:
        name = self.under_way[0]
        life = self.lives[name]
        assert life.pending is not None
        for entity in list(life.pending.states):
            self.report_ready(name, entity, 0)

    @precondition(lambda self: self.under_way)
    @rule()
    def failed(self) -> None:
        name = self.under_way[0]
        self.report_failed(name, "a", 0, timed_out=False)

    @rule(plan=PLANS, how=st.sampled_from(["deployed", "failed", "canceled"]))
    def change_to_its_end(self, plan: Plan, how: str) -> None:
        """Steps that chance would seldom put together, so that runs get far."""
        self.change("churn", plan)
        if "churn" in self.under_way and how == "canceled":
            self.cancel("churn")
        elif self.under_way:
            self.deployed() if how == "deployed" else self.failed()

    @rule(name=NAMES, entity=ENTITIES, old=st.sampled_from([0, 0, 0, 1]), timed_out=st.booleans())
    def report_failed(self, name: str, entity: str, old: int, timed_out: bool) -> None:
        if life := self.lives.get(name):
            entity = self.any_entity(life, entity)
            version = life.latest - old
            event = EntityFailed(
                at_ms=now_ms(), endpoint_id=life.endpoint_id, version=version, entity=entity, message="No.", timed_out=timed_out
            )
            self.log.append(event)
            if self.is_awaited(life, entity, old):
                life.end("UPDATE_FAILED", entity, ABORTED if timed_out else FAILED)

    def any_entity(self, life: Life, entity: str) -> str:
        """One that is awaited, where there is one, for `a`."""
        return next(iter(life.pending.states)) if life.pending and entity == "a" else entity

    def is_awaited(self, life: Life, entity: str, old: int) -> bool:
        return not old and life.update == "IN_PROGRESS" and life.pending is not None and entity in life.pending.states

    @rule(name=NAMES)
    def cancel(self, name: str) -> None:
        answer, life = self.command(name, "config:cancel"), self.lives.get(name)
        if life is None:
            self.expect(answer, 404, "RESOURCE_DOES_NOT_EXIST")
        elif life.update != "IN_PROGRESS":
            self.expect(answer, 409, "RESOURCE_CONFLICT")
        else:
            self.expect(answer, 200)
            life.end("UPDATE_CANCELED", None)

    @rule(name=NAMES)
    def stop(self, name: str) -> None:
        answer, life = self.command(name, "config:stop"), self.lives.get(name)
        if life is None:
            self.expect(answer, 404, "RESOURCE_DOES_NOT_EXIST")
        elif life.update == "IN_PROGRESS" or life.serving is None:
            self.expect(answer, 409, "RESOURCE_CONFLICT")
        else:
            self.expect(answer, 200)
            life.stopped, life.pending, life.update = True, None, "NOT_UPDATING"

    @rule(name=NAMES)
    def start(self, name: str) -> None:
        answer, life = self.command(name, "config:start"), self.lives.get(name)
        if life is None:
            self.expect(answer, 404, "RESOURCE_DOES_NOT_EXIST")
        elif life.update == "IN_PROGRESS" or not life.stopped or life.active is None:
            self.expect(answer, 409, "RESOURCE_CONFLICT")
        else:
            self.expect(answer, 200)
            life.deploy(life.active.plan)

    @precondition(lambda self: self.asked % 4 == 0)
    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        answer = self.call("DELETE", f"{ENDPOINTS}/{{name}}", name=self.name(name))
        if self.lives.pop(name, None) is None:
            self.expect(answer, 404, "RESOURCE_DOES_NOT_EXIST")
        else:
            assert (answer.status_code, answer.json()) == (200, {})

    @invariant()
    def each_process_shows_what_the_model_says(self) -> None:
        for name, life in self.lives.items():
            shown = self.call("GET", f"{ENDPOINTS}/{{name}}", name=self.name(name)).json()
            ready = "READY" if life.serving else "NOT_READY"
            assert shown["state"] == {"ready": ready, "config_update": life.update, "suspend": "NOT_SUSPENDED"}
            assert shown["id"] == life.endpoint_id
            assert summed_up(shown.get("config")) == expected(life.active, stopped=life.stopped)
            assert summed_up(shown.get("pending_config")) == expected(life.pending)

    @invariant()
    def the_list_is_the_same(self) -> None:
        listed = self.call("GET", ENDPOINTS).json()["endpoints"]
        mine = {e["name"]: e["state"]["config_update"] for e in listed if e["name"].startswith(self.prefix)}
        assert mine == {self.name(name): life.update for name, life in self.lives.items()}

    def teardown(self) -> None:
        for name in self.lives:
            self.call("DELETE", f"{ENDPOINTS}/{{name}}", name=self.name(name))
        for client in self.clients:
            client.close()


def summed_up(config: dict[str, Any] | None) -> Any:
    """Version, and by served entity its model version, share and state; both generations of names must tell the same."""
    if config is None:
        return None
    entities = {e["name"]: (e["entity_version"], e["state"]["deployment"]) for e in config["served_entities"]}
    assert entities == {e["name"]: (e["model_version"], e["state"]["deployment"]) for e in config["served_models"]}
    shares = {route["served_entity_name"]: route["traffic_percentage"] for route in config["traffic_config"]["routes"]}
    return config["config_version"], entities, shares


def expected(deployment: Deployment | None, *, stopped: bool = False) -> Any:
    if deployment is None:
        return None
    plan = deployment.plan.entities
    entities = {name: (version, ABORTED if stopped else deployment.states[name]) for name, (version, _) in plan.items()}
    return deployment.version, entities, {name: share for name, (_, share) in plan.items()}


def test_the_lifecycle_is_the_documented_one(ingresses: Ingresses) -> None:
    token = ingresses.token("admin")

    class Here(Lifecycle):
        def __init__(self) -> None:
            super().__init__(ingresses, token)

    bounded = settings(
        max_examples=45,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # to shrink a failure takes minutes; its steps are printed as they were
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(Here, settings=bounded)
