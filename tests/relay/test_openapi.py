"""The served OpenAPI document against the served relay: schemathesis asks, every answer must be as described."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from anporia_relay.errors import STATUS
from tests.relay.served import Served, sign
from tests.relays import RunningRelay


@schemathesis.serializer("application/x-ndjson")
def ndjson(_context: object, value: object) -> bytes:
    return value.encode("utf-8", "replace") if isinstance(value, str) else json.dumps(value).encode()


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRelay]:
    free = {f"ANPORIA_{name}_RATE": "0" for name in ("AGENT", "PEER", "BAD_EVENT")}
    with RunningRelay(tmp_path_factory.mktemp("openapi"), env=free) as running:
        yield running
        assert "Traceback" not in running.stderr


def document(relay: RunningRelay) -> dict[str, Any]:
    answer = requests.get(f"{relay.url}/openapi.json", timeout=10)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def test_document_names_every_route_once(tmp_path: Path) -> None:
    with Served(tmp_path) as relay:
        said = relay.get("/openapi.json").json()
        assert said["openapi"].startswith("3.1")
        routes = {(route.path, route.method.lower()) for route in relay.relay.router.routes}
    assert {(path, method) for path, methods in said["paths"].items() for method in methods} == routes
    ids = [operation["operationId"] for methods in said["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))
    assert "securitySchemes" not in said["components"]
    for methods in said["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                for code in re.findall(r"[a-z_]+", answer["description"].partition("Anporia-Code: ")[2]):
                    assert STATUS[code] == int(status)


def test_document_of_a_private_relay(tmp_path: Path) -> None:
    import base64

    with Served(tmp_path, auth_user="u", auth_password="p") as relay:
        token = base64.b64encode(b"u:p").decode()
        said = relay.get("/openapi.json", {"Authorization": f"Basic {token}"}).json()
    assert said["components"]["securitySchemes"] == {"basic": {"type": "http", "scheme": "basic"}}
    for path, methods in said["paths"].items():
        for operation in methods.values():
            assert ("401" in operation["responses"]) == ("security" in operation) == (path != "/health")


def test_answers_conform(relay: RunningRelay, counts: Callable[..., int]) -> None:
    schema = schemathesis.openapi.from_dict(document(relay))
    schema.config.update(base_url=relay.url)
    schema.config.generation.update(modes=list(GenerationMode))
    examples = counts(12, soak=1_000)
    asked: set[str] = set()
    with requests.Session() as session:
        for found in schema.get_all_operations():
            operation: Any = found.ok()  # type: ignore[union-attr]
            if operation.path == "/stream":
                continue  # an answer without end; its refusals are asked for below

            @seed(20_261_121)
            @settings(
                max_examples=examples, deadline=None, database=None, derandomize=False,
                phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=operation.as_strategy())
            def ask(case: Any) -> None:
                answer = case.call(session=session, timeout=20)
                assert answer.status_code < 500, (case.as_curl_command(), answer.text)
                # no schema can say that a signature must verify or that a date must be near
                case.validate_response(answer, excluded_checks=[positive_data_acceptance])
                asked.add(f"{case.method} {case.operation.path}")

            ask()
    assert len(asked) == sum(len(methods) for methods in document(relay)["paths"].values()) - 1


def test_genuine_events_conform(relay: RunningRelay) -> None:
    """What schemathesis cannot make: answers about events that are really there."""
    import time

    schema = schemathesis.openapi.from_dict(document(relay))
    schema.config.update(base_url=relay.url)
    event = sign("hello", 4, ["t", "room"], ["cap", "x"], at=int(time.time()))
    revoke = sign("", 9, ["e", event.id], at=int(time.time()))
    body = {**json.loads(event.to_json())}

    def check(path: str, method: str, **case: Any) -> None:
        made = schema[path][method].Case(**case)
        made.call_and_validate(timeout=20)

    json_body = {"media_type": "application/json"}
    check("/events", "POST", body=body, **json_body)
    check("/events/dry-run", "POST", body=body, **json_body)
    check("/events", "GET", query={"limit": 1, "kinds": "4"})
    check("/events/{event_id}", "GET", path_parameters={"event_id": event.id})
    check("/agents/{agent_id}", "GET", path_parameters={"agent_id": event.agent_id})
    check("/agents/{agent_id}/health", "GET", path_parameters={"agent_id": event.agent_id})
    check("/history/{agent_id}", "GET", path_parameters={"agent_id": event.agent_id}, query={"kind": 4})
    check("/events", "POST", body=json.loads(revoke.to_json()), **json_body)
    check("/events/{event_id}", "GET", path_parameters={"event_id": event.id})
    for path in ("/", "/health", "/rooms", "/capabilities", "/stats", "/agents", "/metrics", "/docs"):
        check(path, "GET")


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ({"kinds": "x"}, {}, 422),
        ({"since": "1"}, {}, 422),
        ({}, {"Last-Event-ID": "00000000-1"}, 400),
    ],
)
def test_stream_refusals_conform(
    query: dict[str, str], headers: dict[str, str], status: int, relay: RunningRelay
) -> None:
    described = document(relay)["paths"]["/stream"]["get"]["responses"]
    answer = requests.get(f"{relay.url}/stream", params=query, headers=headers, timeout=10)
    assert answer.status_code == status
    assert answer.headers["Anporia-Code"] in described[str(status)]["description"]
    assert answer.json().keys() == {"detail"}
