"""Publishing: one event, many as NDJSON, or none at all (dry run)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from anporia_wire import AnporiaError, Event, MalformedEvent, event_id, kinds

from ..errors import STATUS, Rejected
from ..http import Request, Response, Route, json
from ..pipeline import Accepted, Verdict

if TYPE_CHECKING:
    from ..app import Relay

__all__ = ["answer_to", "is_json", "parse_event", "routes"]

MAX_BATCH_EVENTS = 1_000  # settled 10
MAX_BATCH_BYTES = 4 * 1024 * 1024  # the same

_EVENT_CODES = (
    "malformed", "too_large", "bad_time", "bad_shape", "bad_id", "bad_signature", "bad_pow", "bad_credit",
    "target_missing", "not_yours", "rate_peer", "rate_agent", "rate_bad_events", "lobby_full", "lobby_slow",
    "body_too_large", "store_full", "store",
)  # fmt: skip


def routes(relay: Relay) -> list[Route]:
    """Give the routes that publish."""

    async def publish(request: Request) -> Response:
        if not is_json(request.headers.get(b"content-type", b"")):
            msg = "send the event with content-type: application/json"
            raise MalformedEvent([{"type": "model_attributes_type", "loc": ["body"], "msg": msg, "input": None}])
        event = parse_event(await request.body())
        judged: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        relay.pipeline.offer(event, relay.peer(request), lambda verdict: _tell(judged, verdict))
        verdict = await judged
        if not isinstance(verdict, Accepted):
            raise verdict
        return Response(200, answer_to(relay, verdict))

    async def batch(request: Request) -> Response:
        body = await request.body(MAX_BATCH_BYTES)
        lines = [line for line in body.split(b"\n") if line.strip()]
        if len(lines) > MAX_BATCH_EVENTS:
            raise Rejected("batch_too_large", f"a batch holds at most {MAX_BATCH_EVENTS} events, got {len(lines)}")
        candidates: list[Event | AnporiaError] = []
        for line in lines:
            try:
                candidates.append(Event.parse(line))
            except MalformedEvent as exc:
                candidates.append(exc)
        verdicts = await relay.pipeline.accept(candidates, relay.peer(request))
        now = int(relay.wall())
        answers = []
        taken = {False: 0, True: 0}  # by whether they were duplicates
        for candidate, verdict in zip(candidates, verdicts, strict=True):
            if isinstance(verdict, Accepted):
                taken[verdict.duplicate] += 1
                answers.append(_ACCEPTED % (verdict.id.encode(), b"true" if verdict.duplicate else b"false"))
            else:
                relay.count_refused(verdict)
                id_ = candidate.id if isinstance(candidate, Event) else None
                answers.append(orjson.dumps(_refused(verdict, id_, now)) + b"\n")
        relay.metrics.accepted.inc(taken[False])
        relay.metrics.duplicates.inc(taken[True])
        return Response(200, b"".join(answers), content_type=b"application/x-ndjson")

    async def dry_run(request: Request) -> Response:
        event = parse_event(await request.body())
        computed = event_id(event.canonical())
        same = computed == event.id
        genuine = same and (await relay.verifier.verify([event.signed()]))[0]
        needs_proof = kinds.lookup(event.kind).proof is kinds.Proof.REQUIRED
        if not same:
            hint = "id differs: hash the RFC 8785 form of [agent_id, created_at, kind, tags, content]"
        elif not genuine:
            hint = "id is right; sign the 32 raw bytes of the id, not its hex text"
        else:
            hint = "id and signature are right" + ("; this kind also needs proof of work" if needs_proof else "")
        return json(
            {
                "dry_run": True,
                "computed_id": computed,
                "your_id": event.id,
                "id_matches": same,
                "signature_valid": genuine,
                "pow_required": needs_proof,
                "hint": hint,
            }
        )

    return [
        Route("POST", "/events", publish, "Publish one signed event",
              body="Event", returns="Accepted", codes=_EVENT_CODES),
        Route(
            "POST", "/events/batch", batch,
            "Publish up to 1,000 events, one JSON a line; one answer a line, in order. Not atomic.",
            body="ndjson", returns="ndjson", codes=("batch_too_large", "body_too_large"),
        ),
        Route(
            "POST", "/events/dry-run", dry_run, "Check an event's id and signature without publishing it",
            body="Event", returns="DryRun", codes=("malformed", "body_too_large"),
        ),
    ]  # fmt: skip


_ACCEPTED = b'{"id":"%b","status":200,"accepted":true,"duplicate":%b}\n'


def _refused(error: AnporiaError, id_: str | None, now: int) -> Mapping[str, Any]:
    answer = {"id": id_, "status": STATUS.get(error.code, 500), "code": error.code, "detail": str(error)[:500]}
    retry_in = getattr(error, "retry_in", None)
    return {**answer, "retry_at": now + retry_in} if retry_in is not None else answer


def answer_to(relay: Relay, accepted: Accepted) -> bytes:
    """Count an accepted event, and give the body of its answer."""
    (relay.metrics.duplicates if accepted.duplicate else relay.metrics.accepted).inc()
    return b'{"id":"%b","accepted":true}' % accepted.id.encode()


def _tell(judged: asyncio.Future[Verdict], verdict: Verdict) -> None:
    if not judged.done():  # else the client has left
        judged.set_result(verdict)


def parse_event(body: bytes) -> Event:
    """Read the one event of a body. Raises `MalformedEvent` or `Rejected`."""
    try:
        return Event.parse(body)
    except MalformedEvent:
        # Published relays tell text that is not even UTF-8 apart from JSON that is wrong (WIRE section 4).
        if not _is_utf8(body):
            raise Rejected("bad_text", "There was an error parsing the body") from None
        raise


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_json(content_type: bytes) -> bool:
    """Say whether a content-type is JSON."""
    media = content_type.partition(b";")[0].strip().lower()
    return media == b"application/json" or (media.startswith(b"application/") and media.endswith(b"+json"))
