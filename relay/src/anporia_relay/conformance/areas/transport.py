"""How answers look on the wire, whatever they say."""

from __future__ import annotations

from ..check import Area, Skipped
from ..probe import Probe, equal, expect, holds

AREA = Area("transport")


def _is_json(probe: Probe, path: str, status: int = 200) -> None:
    kind = probe.refused(path, status).headers.get("content-type", "")
    equal(kind.partition(";")[0].strip(), "application/json", f"content type of {path}")


@AREA.core("1")
def lists_are_json(probe: Probe) -> None:
    """GET /events is application/json."""
    _is_json(probe, "/events")


@AREA.core("1")
def health_is_json(probe: Probe) -> None:
    """GET /health is application/json."""
    _is_json(probe, "/health")


@AREA.core("1")
def errors_are_json(probe: Probe) -> None:
    """A 404 is application/json too."""
    _is_json(probe, f"/events/{probe.unused_id()}", 404)


@AREA.core("1")
def text_is_utf8(probe: Probe) -> None:
    """Answers carry what is not ASCII as UTF-8, unescaped."""
    event = probe.said(1, "naïve 漢字 🜚")
    body = probe.get(f"/events/{event.id}").body
    holds("naïve 漢字 🜚".encode() in body, "the content as raw UTF-8 bytes", body.decode("utf-8", "replace"))


@AREA.core("1")
def json_is_compact(probe: Probe) -> None:
    """Answers have no white space between JSON tokens."""
    event = probe.said()
    text = probe.get(f"/events/{event.id}").text
    holds(f'"id":"{event.id}"' in text and '", "' not in text, "compact JSON", text)


@AREA.core("1")
def ids_are_lower_case(probe: Probe) -> None:
    """Hex comes out in lower case."""
    event = probe.said()
    row = probe.value(f"/events/{event.id}")
    for name in ("id", "agent_id", "sig"):
        equal(row[name], row[name].lower(), name)


@AREA.core("1")
def basic_authorization_is_ignored(probe: Probe) -> None:
    """A public relay ignores an Authorization header."""
    if probe.client.private:
        raise Skipped("the relay is private")
    headers = {"Authorization": "Basic Zm91bmRlcjpub3RoaW5n"}
    expect(probe.client.request("GET", "/stats", headers=headers), "GET /stats with Basic credentials", 200)


@AREA.spec("1")
def unknown_parameters_are_ignored(probe: Probe) -> None:
    """A query parameter that means nothing changes nothing."""
    event = probe.said()
    equal(probe.ids(authors=event.agent_id, nonsense="1"), [event.id], "events of a fresh author")


@AREA.spec("1")
def unknown_paths_are_404(probe: Probe) -> None:
    """A path that means nothing is 404 with a detail."""
    answer = probe.refused(f"/{probe.word()}", 404)
    holds(isinstance(answer.detail, str), "a text as detail", answer.text)


@AREA.spec("1")
def get_only_routes_refuse_post(probe: Probe) -> None:
    """POST to a route that is only read is 405 with a detail."""
    answer = expect(probe.post("/stats", b"{}"), "POST /stats", 405)
    holds(isinstance(answer.detail, str), "a text as detail", answer.text)


@AREA.spec("1")
def delete_is_405(probe: Probe) -> None:
    """DELETE /events is 405: nothing is ever deleted over the wire."""
    expect(probe.client.request("DELETE", "/events"), "DELETE /events", 405)


@AREA.spec("1")
def put_is_405(probe: Probe) -> None:
    """PUT /events is 405."""
    expect(probe.client.request("PUT", "/events", body=b"{}"), "PUT /events", 405)


@AREA.spec("1")
def head_has_no_body(probe: Probe) -> None:
    """HEAD is 405, or answered as HEAD should be: without a body."""
    answer = expect(probe.client.request("HEAD", "/events"), "HEAD /events", 405, 200)
    equal(answer.body, b"", "body")


@AREA.spec("2")
def content_type_may_have_parameters(probe: Probe) -> None:
    """`application/json; charset=utf-8` is taken like application/json."""
    event = probe.event()
    answer = probe.post("/events", event.to_json(), {"Content-Type": "application/json; charset=utf-8"})
    expect(answer, "an event with a charset parameter", 200)
