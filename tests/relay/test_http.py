"""Routing, CORS, redirects, the private relay, and the pages about the relay itself."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from anporia_relay.errors import STATUS
from anporia_relay.http import Route
from anporia_wire import kinds
from tests.relay.served import NOW, Served, head, keys, post, sign

ROOT = Path(__file__).resolve().parent.parent.parent
CORS = {"Origin": "https://app.example"}


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("http")) as served:
        served.publish(sign("hello", 1, ["t", "room"]), sign('{"capabilities":[]}', kinds.CAPABILITY, ["cap", "x.y"]))
        yield served


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, auth_user="founder", auth_password="p:ä s") as served:
        yield served


def every_route(relay: Served) -> list[Route]:
    return list(relay.relay.router.routes)


def concrete(path: str) -> str:
    return re.sub(r"\{\w+\}", "a" * 64, path)


# -- routes


def test_every_route_has_a_twin_under_api(relay: Served) -> None:
    for route in every_route(relay):
        if route.path == "/stream":
            for prefix in ("", "/api"):
                relay.stream(prefix + "/stream").close()
            continue
        path = concrete(route.path)
        twin = "/api" if path == "/" else f"/api{path}"
        answers = [relay.wire().ask(head(route.method, where, {"Content-Length": "0"})) for where in (path, twin)]
        assert answers[0].status == answers[1].status
        assert answers[0].status != 404 or answers[0].code in (
            "event_not_found",
            "agent_not_found",
            "task_not_found",
            "intent_not_found",
        )
        assert answers[0].headers.keys() == answers[1].headers.keys()
        if path not in ("/metrics", "/health"):  # links lead on under the prefix that was used
            assert answers[0].body == answers[1].body.replace(b"http://relay/api", b"http://relay")


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/api/nowhere",
        "/api/api/health",
        "/apihealth",
        "//health",
        "/events//",
        "/Events",
        "/events/a/b",
        "/%00",
        "/..%2fhealth",
        "/health/x",
        "/events/%2e%2e/health",
        "/agents/x/y",
        "/%ff",
        "/é".encode().decode("latin-1"),
    ],
)
def test_unknown_paths(path: str, relay: Served) -> None:
    answer = relay.get(path)
    if answer.status == 400:
        assert path.startswith("/\xc3")  # not even a URL
    elif answer.status == 307:
        assert path == "/events//"
    else:
        assert (answer.status, answer.code, answer.json()) == (404, "not_found", {"detail": "Not Found"})


@pytest.mark.parametrize("path", ["/%65vents", "/api/%65vents", "http://other.example/events", "/events?"])
def test_other_spellings_of_a_path(path: str, relay: Served) -> None:
    assert len(relay.get(path).json()) == 2


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("HEAD", "/events", "GET, POST"),
        ("PUT", "/events", "GET, POST"),
        ("DELETE", f"/events/{'a' * 64}", "GET"),
        ("POST", "/stream", "GET"),
        ("HEAD", "/stream", "GET"),
        ("HEAD", "/health", "GET"),
        ("PATCH", "/events/batch", "GET, POST"),
        ("OPTIONS", "/events", "GET, POST"),
        ("POST", "/", "GET"),
        ("POST", f"/agents/{'a' * 64}/health", "GET"),
    ],
)
def test_wrong_method(method: str, path: str, allow: str, relay: Served) -> None:
    for prefix in ("", "/api"):
        with relay.one_wire() as wire:
            wire.send(head(method, prefix + path))
            answer = wire.answer(to_head=method == "HEAD")
            assert (answer.status, answer.code, answer.headers["allow"]) == (405, "method_not_allowed", allow)
            if method != "HEAD":
                assert answer.json() == {"detail": "Method Not Allowed"}
            assert wire.ask(head("GET", "/health")).status == 200  # nothing was left on the connection


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/events/", "/events"),
        ("/api/events/", "/api/events"),
        ("/events/?limit=1&t=a%20b", "/events?limit=1&t=a%20b"),
        ("/%65vents/", "/%65vents"),
        ("/events//?x=http://a.example", "/events?x=http://a.example"),
        ("http://evil.example/events/", "/events"),
    ],
)
def test_trailing_slash(path: str, location: str, relay: Served) -> None:
    answer = relay.get(path)
    assert (answer.status, answer.headers["location"], answer.body) == (307, location, b"")


def test_redirect_never_leaves_the_relay(relay: Served) -> None:
    for path in ("//evil.example/events/", "/\\evil.example/", "//evil.example/", "/api//evil.example/events/"):
        assert relay.get(path).status in (400, 404)


# -- CORS


def test_preflight(relay: Served) -> None:
    for path in ("/events", "/api/events", "/nowhere"):
        asked = {**CORS, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type, x-y"}
        answer = relay.wire().ask(head("OPTIONS", path, asked))
        assert (answer.status, answer.body) == (200, b"OK")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-allow-headers"] == "content-type, x-y"
        assert answer.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
        assert answer.headers["access-control-max-age"] == "86400"
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (head("GET", "/events?limit=1", CORS), 200),
        (head("GET", "/nowhere", CORS), 404),
        (head("PUT", "/events", CORS), 405),
        (head("GET", "/events/", CORS), 307),
        (head("GET", "/events?limit=0", CORS), 422),
        (post("/events", b"{", CORS), 422),
        (post("/events", b" " * 1_100_000, CORS), 413),
        (head("GET", "/stream?since=1", CORS), 422),
        (head("GET", "/health", {**CORS, "X": "y" * 20_000}), 431),
    ],
)
def test_cors_on_answers_and_refusals(request_: bytes, status: int, relay: Served) -> None:
    answer = relay.wire().ask(request_)
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == "*"
    exposed = answer.headers["access-control-expose-headers"]
    assert {"Retry-After", "Anporia-Code"} <= set(exposed.split(", "))
    if status != 431:
        assert answer.headers["vary"] == "Origin" and "Link" in exposed


def test_no_cors_without_origin(relay: Served) -> None:
    answer = relay.get("/health")
    assert answer.headers["vary"] == "Origin"
    assert not [name for name in answer.headers if name.startswith("access-control")]


# -- a private relay


def basic(credentials: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}


def test_private_relay_asks_everywhere(private: Served) -> None:
    paths = [(route.method, concrete(route.path)) for route in every_route(private)] + [
        ("GET", "/nowhere"),
        ("PUT", "/"),
        ("GET", "/events/"),
    ]
    for method, path in paths:
        for prefix in ("", "/api"):
            answer = private.wire().ask(head(method, prefix + path))
            if path == "/health":
                assert answer.status == 200
                continue
            assert (answer.status, answer.code) == (401, "unauthorized"), path
            assert answer.headers["www-authenticate"] == 'Basic realm="anporia", charset="UTF-8"'
    assert private.get("/").json()["detail"].startswith("this relay is private")


def test_private_relay_answers_options(private: Served) -> None:
    preflight = {**CORS, "Access-Control-Request-Method": "GET"}
    assert private.wire().ask(head("OPTIONS", "/events", preflight)).status == 200
    assert private.wire().ask(head("OPTIONS", "/events")).status == 405


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (basic("founder:p:ä s"), 200),
        ({"authorization": basic("founder:p:ä s")["Authorization"].replace("Basic", "bAsIc  ")}, 200),
        (basic("founder:p:ä "), 401),
        (basic("Founder:p:ä s"), 401),
        (basic("founder"), 401),
        (basic(""), 401),
        (basic(":"), 401),
        ({"Authorization": "Basic"}, 401),
        ({"Authorization": "Basic !!!!"}, 401),
        ({"Authorization": "Basic \xff\xfe"}, 401),
        ({"Authorization": "Bearer founder:p:ä s".encode().decode("latin-1")}, 401),
        ({"Authorization": basic("founder:p:ä s")["Authorization"][6:]}, 401),
    ],
)
def test_credentials(headers: dict[str, str], status: int, private: Served) -> None:
    for path in ("/", "/events", "/metrics"):
        assert private.get(path, headers).status == status


def test_private_publish_and_stream(private: Served) -> None:
    secret = basic("founder:p:ä s")
    assert private.post("/events", sign("no").to_json()).status == 401
    wire = private.stream("/stream", secret)
    assert private.post("/events", sign("yes").to_json(), secret).status == 200
    assert b'"content":"yes"' in wire.chunk()
    assert private.get("/stream").status == 401
    assert private.get("/", secret).json()["auth"] == "basic"


def test_password_that_is_no_text(tmp_path: Path) -> None:
    """An environment variable may hold any bytes; they come as lone surrogates."""
    with Served(tmp_path, auth_user="founder", auth_password="\udcff\udcfe") as relay:
        token = base64.b64encode(b"founder:\xff\xfe").decode()
        assert relay.get("/stats", {"Authorization": f"Basic {token}"}).status == 200
        assert relay.get("/stats", basic("founder:x")).status == 401


def test_large_body_without_credentials(private: Served) -> None:
    wire = private.wire().send(post("/events", b" " * 500_000))
    assert wire.answer().status == 401
    assert wire.ask(head("GET", "/health")).status == 200


# -- about the relay


def test_info_document_is_the_running_configuration(tmp_path: Path) -> None:
    with Served(tmp_path, agent_rate=7, peer_rate=8, bad_event_rate=9, max_subscribers=10) as relay:
        said = relay.get("/").json()
        assert said.keys() == {"name", "version", "protocol", "database_id", "limits", "features", "auth"}
        assert (said["name"], said["protocol"], said["auth"]) == ("anporia-relay", "ANP2 v0.1", "none")
        assert re.fullmatch(r"[0-9a-f]{8}", said["database_id"])
        assert said["limits"].items() >= {
            "agent_rate": 7, "peer_rate": 8, "bad_event_rate": 9, "max_subscribers": 10, "max_body_bytes": 1_048_576,
            "max_batch_events": 1_000, "max_batch_bytes": 4_194_304,
        }.items()  # fmt: skip
        assert {"batch", "cursor", "resume"} <= set(said["features"])
        assert relay.get("/api/").json() == relay.get("/api").json() == said


def test_health(relay: Served) -> None:
    said = relay.get("/health").json()
    assert said.pop("searchable") in range(3)
    assert said == {"status": "ok", "version": said["version"], "events": 2, "time": NOW}


def test_docs_page(relay: Served) -> None:
    answer = relay.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    for route in every_route(relay):
        assert f"<code>{route.path}</code>" in answer.body.decode()
    assert b"<script" not in answer.body and b"http://" not in answer.body and b"https://" not in answer.body


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/agents/short", 400, "bad_agent_id"),
        (f"/agents/{'g' * 64}", 400, "bad_agent_id"),
        (f"/agents/{'a' * 64}", 404, "agent_not_found"),
        (f"/agents?name={'x' * 129}", 422, "invalid_filter"),
        ("/agents/%ff%fe/health", 200, None),
        ("/agents/anything/health", 200, None),
    ],
)
def test_agents(path: str, status: int, code: str | None, relay: Served) -> None:
    answer = relay.get(path)
    assert (answer.status, answer.code) == (status, code)


def test_views_follow_the_log(tmp_path: Path) -> None:
    with Served(tmp_path) as relay:
        relay.publish(sign("hi", 1, ["t", "room"]), sign("{}", kinds.CAPABILITY, ["cap", "x.y"]), sign("", kinds.BEAT))
        agent = keys(1).agent_id
        assert relay.get("/stats").json()["total_events"] == 2
        assert [row["room"] for row in relay.get("/rooms").json()["rooms"]] == ["room"]
        assert [row["capability"] for row in relay.get("/capabilities").json()["capabilities"]] == ["x.y"]
        assert [row["agent_id"] for row in relay.get("/agents").json()["agents"]] == [agent]
        assert relay.get(f"/agents/{agent.upper()}").json()["is_healthy"] is True
        assert relay.get(f"/agents/{agent.upper()}/health").json()["beats_24h"] == 1
        before = {path: relay.get(path).body for path in ("/stats", "/rooms", "/capabilities", "/events")}
    with Served(tmp_path) as relay:  # rebuilt from the log
        assert {path: relay.get(path).body for path in before} == before


POISON = [
    "null",
    "[1]",
    "5",
    '"x"',
    "NaN",
    '{"name":NaN}',
    '{"name":["x"]}',
    '{"name":null}',
    '{"capabilities":5}',
    '{"capabilities":[1,null,{"name":5},{"name":"a","constraints":5,"tags":7,"pricing":[],"extensions":{}}]}',
    '{"capabilities":[{"name":"b","constraints":{"p95_latency_ms":NaN},"pricing":{"amount":"x","currency":1}}]}',
    '{"reason":5,"score":0.5}',
    '{"latency_ms":1e400}',
    '{"latency_ms":-1}',
    "[" * 5_000,
    '{"a":' * 100 + "1" + "}" * 100,
    '{"name":"\\ud800"}',
    "\x00",
    '{"name":"\\u0000\\u2028"}',
    "9" * 5_000,
    '{"deadline_unix":1e400}',
]


def test_poison_in_content_breaks_no_view(tmp_path: Path) -> None:
    """One stored event must never break a view for everybody (WIRE section 22)."""
    from anporia_wire import pow

    with Served(tmp_path) as relay:
        number = 1
        for content in POISON:
            for kind in (0, 1, 4, 5, 7, 11, 50, 53):
                number += 1
                tags = [["t", content[:200]], ["cap", content[:200]], ["p", keys(1).agent_id], ["e", "a" * 64]]
                if kind in (0, 50):
                    event = pow.mine(keys(number), kind, content, tags, NOW)
                elif kind == 7:
                    event = sign(f'{{"category":"spam","x":{content}}}', 7, *tags, by=number)
                else:
                    event = sign(content, kind, *tags, by=number)
                answer = relay.post("/events", event.to_json())
                assert answer.status == 200 or kind == 7, answer
        for path in (
            "/agents",
            "/rooms",
            "/capabilities",
            "/capabilities/search?cap=a",
            "/stats",
            f"/events/{'a' * 64}/flags",
            "/capabilities/search",
            "/capabilities/search?sort_by=latency",
            "/capabilities/search?sort_by=price",
            f"/agents/{keys(1).agent_id}/health",
            "/events?limit=1000",
            "/agents?name=x",
        ):
            answer = relay.get(path)
            assert answer.status == 200, (path, answer)
            json.loads(answer.body)
        for agent in range(2, number + 1):
            assert relay.get(f"/agents/{keys(agent).agent_id}").status in (200, 404)
            assert relay.get(f"/agents/{keys(agent).agent_id}/health").status == 200


# -- the documents name what the code does


def test_every_code_is_documented_with_its_status() -> None:
    text = (ROOT / "docs/protocol.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", text, re.MULTILINE)
    assert {code: int(status) for code, status in rows} == STATUS
    assert len(rows) == len(STATUS)


def test_every_feature_is_documented(relay: Served) -> None:
    text = (ROOT / "docs/protocol.md").read_text("utf-8")
    table = text.partition("| feature | means |")[2].partition("\n\n")[0]
    documented = re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)
    assert sorted(documented) == sorted(relay.get("/").json()["features"])
