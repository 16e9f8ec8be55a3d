"""GET /events and its neighbours: filters, order, pages, what is hidden and why."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from anporia_wire import Event, kinds
from tests.relay.served import NOW, Served, keys, sign

VECTORS = json.loads((Path(__file__).resolve().parent.parent / "vectors/filters.json").read_text("utf-8"))


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as served:
        yield served


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A relay that tests only read from."""
    with Served(tmp_path_factory.mktemp("quiet")) as served:
        for number in range(120):
            at, topic = NOW - number // 3, "even" if number % 2 == 0 else "odd"
            served.publish(sign(str(number), number % 4 + 1, ["t", topic], ["p", f"P{number % 5}"], by=1, at=at)
                           if number % 4 in (0, 1, 3) else
                           sign("{}", kinds.BEACON + 4, ["t", topic], by=2, at=at))  # fmt: skip
        yield served


def contents(relay: Served, path: str) -> list[str]:
    answer = relay.get(path)
    assert answer.status == 200, answer
    return [event["content"] for event in answer.json()]


def ids(relay: Served, path: str) -> list[str]:
    answer = relay.get(path)
    assert answer.status == 200, answer
    return [event["id"] for event in answer.json()]


# -- filters


def test_every_event_as_it_was_signed(relay: Served) -> None:
    event = sign('q"\\/\x00\u2028é😀', 1, ["t", "r\u0085oom"], [], ["", "", ""])
    relay.publish(event)
    assert relay.get("/events").body == b"[" + event.to_json() + b"]"
    assert Event.parse(relay.get(f"/events/{event.id}").body) == event


def test_vectors(relay: Served) -> None:
    named = {name: Event.parse(json.dumps(event)) for name, event in VECTORS["events"].items()}
    kept = [event for event in named.values() if event.kind not in kinds.NEVER_STORED]
    relay.run(relay.relay.store.append(kept))  # some are older than any relay would take
    for case in VECTORS["filters"]:
        query = "&".join(f"{name}={quote(str(value))}" for name, value in case["params"].items())
        # kind 11 is never stored; without kinds or t the lobby stays away
        expected = {named[name].id for name in case["match"] if named[name].kind not in kinds.NEVER_STORED}
        if not {"kinds", "kind", "t"} & {name for name, value in case["params"].items() if value}:
            expected -= {event.id for event in named.values() if kinds.LOBBY in event.tag_values("t")}
        assert set(ids(relay, f"/events?{query}&limit=1000")) == expected, case
    for case in VECTORS["bad"]:
        query = "&".join(f"{name}={quote(str(value))}" for name, value in case["params"].items())
        answer = relay.get(f"/events?{query}")
        too_long = len(query) > 16_000  # for a header block, that is
        assert answer.code == ("header_too_large" if too_long else "invalid_filter"), case["params"].keys()


def test_order_is_newest_first_then_by_id(quiet: Served) -> None:
    rows = quiet.get("/events?limit=1000").json()
    assert len(rows) == 120
    assert rows == sorted(rows, key=lambda row: (-row["created_at"], row["id"]))


def test_conditions_hold_together(quiet: Served) -> None:
    path = f"/events?authors={keys(1).agent_id.upper()}&kinds=1,2&t=even&p=P0&since={NOW - 30}&until={NOW - 1}&limit=50"
    rows = quiet.get(path).json()
    assert rows
    assert all(["t", "even"] in row["tags"] and ["p", "P0"] in row["tags"] and row["kind"] in (1, 2) for row in rows)
    assert all(NOW - 30 <= row["created_at"] <= NOW - 1 for row in rows)
    everything = quiet.get("/events?limit=1000").json()
    assert len(rows) == sum(
        ["t", "even"] in row["tags"] and ["p", "P0"] in row["tags"] and row["kind"] in (1, 2)
        and NOW - 30 <= row["created_at"] <= NOW - 1 for row in everything
    )  # fmt: skip


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 100),
        ("limit=1", 1),
        ("limit=1000", 120),
        ("kinds=&authors=&t=&p=&cursor=&unknown=1", 100),
        (f"since={NOW}&until={NOW}", 3),
        ("since=-5&limit=1000", 120),
        ("until=-1", 0),
        (f"since={2**63 - 1}", 0),
        (f"until={-(2**63)}", 0),
        (f"since=%20%2B{NOW}%20", 3),
        ("kinds=1,%202", 60),
        ("kind=1", 30),
        ("kinds=2&kind=1", 30),
        (f"kinds={2**53 - 1}", 0),
        ("authors=nobody", 0),
        (f"authors=nobody,{keys(2).agent_id}", 30),
        ("t=EVEN", 0),
        ("p=P", 0),
        ("p=%00&t=%ff&authors=%f0%9f%98%80", 0),
        ("limit=5&limit=7", 7),
    ],
)
def test_counts(query: str, count: int, quiet: Served) -> None:
    for prefix in ("", "/api"):
        assert len(quiet.get(f"{prefix}/events?{query}").json()) == count


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=1001", "limit=-1", "limit=", "limit=ten", "limit=1.5", "limit=%D9%A1", "limit=1e2",
        f"limit={'9' * 5_000}", "since=", "until=", "since=now", f"since={2**63}", f"until={-(2**63) - 1}", "since=1.0",
        "kinds=abc", "kinds=1,", "kinds=,", "kinds=-1", f"kinds={2**53}", f"kinds={'1,' * 256}1", "kind=x",
        f"authors={'a,' * 256}a", "as_of=", "as_of=x", f"as_of={2**63}", "include_hidden=maybe", "include_revoked=2",
    ],
)  # fmt: skip
def test_bad_parameters(query: str, quiet: Served) -> None:
    answer = quiet.get(f"/events?{query}")
    assert (answer.status, answer.code) == (422, "invalid_filter")
    name = query.partition("=")[0]
    for problem in answer.json()["detail"]:
        assert problem.keys() >= {"type", "loc", "msg", "input"}
        assert problem["loc"] in (["query", name], ["query", "until" if name == "as_of" else name])
    assert len(answer.body) < 1_000


@pytest.mark.parametrize("cursor", ["x", "é", "AAAA", "A" * 22, "A" * 400, "AAAAAAAAAAAAAAAAAAAAA!", "%00"])
def test_bad_cursor(cursor: str, quiet: Served) -> None:
    answer = quiet.get(f"/events?cursor={quote(cursor)}")
    if answer.status == 200:  # 16 bytes are a place, wherever it is
        assert cursor == "A" * 22
    else:
        assert (answer.status, answer.code) == (400, "bad_cursor")


def test_most_values_that_fit_into_a_header(quiet: Served) -> None:
    authors = ",".join(keys(number).agent_id for number in range(1, 200))
    kind_list = ",".join(map(str, range(256)))
    assert len(quiet.get(f"/events?authors={authors}&kinds={kind_list}&t=even&p=P0&limit=1000").json()) == 6


# -- pages


@pytest.mark.parametrize(
    "start",
    ["/events?limit=7", "/api/events?limit=7", "/events?limit=13&t=odd", "/api/events?kinds=1&limit=11&since=0"],
)
def test_following_links_gives_everything_once(start: str, quiet: Served) -> None:
    limit = int(re.findall(r"limit=(\d+)", start)[0])
    expected = ids(quiet, re.sub(r"limit=\d+", "limit=1000", start))
    seen: list[str] = []
    path: str | None = start
    while path:
        assert path.startswith(start.partition("?")[0] + "?")
        answer = quiet.get(path)
        page = [row["id"] for row in answer.json()]
        seen += page
        path = next_link(answer.headers.get("link"))
        assert len(page) == limit or path is None
    assert seen == expected


def next_link(header: str | None) -> str | None:
    if header is None:
        return None
    found = re.fullmatch(r'<([^<>]+)>; rel="next"', header)
    assert found, header
    return found[1]


def test_a_full_last_page_has_no_link(relay: Served) -> None:
    relay.publish(*(sign(str(number)) for number in range(4)))
    assert "link" not in relay.get("/events?limit=4").headers
    assert "link" in relay.get("/events?limit=3").headers


def test_pages_stay_put_while_events_arrive(relay: Served) -> None:
    relay.publish(*(sign(str(number), at=NOW - number) for number in range(10)))
    first = relay.get("/events?limit=5")
    relay.publish(sign("newer", at=NOW + 1), sign("older", at=NOW - 100))
    link = next_link(first.headers["link"])
    assert link is not None
    assert contents(relay, link) == ["5", "6", "7", "8", "9"]


def test_links_under_a_public_address(tmp_path: Path) -> None:
    with Served(tmp_path, public_base_url="https://relay.example/api") as relay:
        relay.publish(*(sign(str(number), 1, ["t", "a b&c"]) for number in range(3)))
        for prefix in ("", "/api"):
            link = next_link(relay.get(f"{prefix}/events?limit=1&t=a%20b%26c&x=%22%3E%0d%0aEvil:1").headers["link"])
            assert link is not None and link.startswith("https://relay.example/api/events?")
            parts = urlsplit(link)
            assert len(contents(relay, f"{parts.path}?{parts.query}")) == 1


# -- what is not shown


def lobby_relay(relay: Served) -> None:
    relay.publish(
        sign("lobby", 1, ["t", kinds.LOBBY], ["p", "P"]),
        sign("both", 1, ["t", "room"], ["t", kinds.LOBBY]),
        sign("room", 1, ["t", "room"], ["p", "P"]),
        sign("short", 1, ["t"], ["T", kinds.LOBBY], ["t", "x", kinds.LOBBY]),
    )


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", {"room", "short"}),
        (f"authors={keys(1).agent_id}", {"room", "short"}),
        ("p=P", {"room"}),
        (f"until={NOW}&as_of=", None),
        (f"as_of={NOW}", {"room", "short"}),
        ("kinds=1", {"lobby", "both", "room", "short"}),
        ("kind=1&p=P", {"lobby", "room"}),
        ("t=lobby", {"lobby", "both"}),
        ("t=room", {"both", "room"}),
        ("t=lobby&include_hidden=1", {"lobby", "both"}),
    ],
)
def test_lobby_stays_away_unless_asked_for(query: str, shown: set[str] | None, relay: Served) -> None:
    lobby_relay(relay)
    answer = relay.get(f"/events?{query}")
    if shown is None:
        assert answer.status == 422
    else:
        assert {event["content"] for event in answer.json()} == shown


def test_revoked(relay: Served) -> None:
    post, other = sign("post"), sign("other")
    revoke = sign('{"reason":"typo"}', kinds.REVOKE, ["e", post.id])
    relay.publish(post, other, revoke)
    assert set(ids(relay, "/events")) == {other.id, revoke.id}
    for query in ("include_revoked=true", "include_revoked=1", f"as_of={NOW}"):
        assert set(ids(relay, f"/events?{query}")) == {post.id, other.id, revoke.id}
    assert set(ids(relay, "/events?include_hidden=true")) == {other.id, revoke.id}
    for path in (f"/events/{post.id}", f"/api/events/{post.id.upper()}"):
        answer = relay.get(path)
        assert (answer.status, answer.code) == (410, "event_revoked")
        assert answer.json() == {"detail": "event revoked by author", "revoked_by": revoke.id, "reason": "typo"}
    relay.publish(post)
    assert relay.get(f"/events/{post.id}").status == 410


def test_revoked_revoke_is_still_read(relay: Served) -> None:
    post = sign("post")
    revoke = sign("", kinds.REVOKE, ["e", post.id])
    relay.publish(post, revoke, sign("", kinds.REVOKE, ["e", revoke.id]))
    assert relay.get(f"/events/{revoke.id}").body == revoke.to_json()
    assert relay.get(f"/events/{post.id}").status == 410


@pytest.mark.parametrize(
    "reason",
    ["", "[]", '{"reason":5}', '{"reason":NaN}', '{"reason":"\\ud800"}', '{"reason":1e400}', "[" * 40 + "]" * 40],
)
def test_reasons_that_are_none(reason: str, relay: Served) -> None:
    post = sign("post")
    relay.publish(post, sign(reason, kinds.REVOKE, ["e", post.id]))
    answer = relay.get(f"/events/{post.id}")
    assert (answer.status, answer.json()["reason"]) == (410, None)


def test_revoke_of_another_author_in_a_later_tag_does_nothing(relay: Served) -> None:
    mine, theirs = sign("mine"), sign("theirs", by=2)
    relay.publish(mine, theirs, sign("", kinds.REVOKE, ["e", mine.id], ["e", theirs.id]))
    assert relay.get(f"/events/{theirs.id}").status == 200


def test_flags_hide_at_three_agents(relay: Served) -> None:
    post = sign("post")
    relay.publish(post)
    for number, content in enumerate(
        ('{"category":"spam","n":NaN}', '{"category":"spam"}', '{"category":"spam","n":[1]}')
    ):
        assert post.id in ids(relay, "/events")
        flag = sign(content, kinds.FLAG, ["e", post.id], by=number + 2, at=NOW + number)
        relay.publish(flag, sign(content, kinds.FLAG, ["e", post.id, "again"], by=number + 2, at=NOW - 50))
    assert post.id not in ids(relay, "/events")
    assert post.id in ids(relay, "/events?include_hidden=true")
    assert post.id not in ids(relay, "/events?include_revoked=true")
    assert post.id in ids(relay, f"/events?as_of={NOW}")
    assert relay.get(f"/events/{post.id}").status == 200
    said = relay.get(f"/events/{post.id.upper()}/flags").json()
    assert (said["event_id"], said["flag_count"]) == (post.id, 6)
    assert [row["created_at"] for row in said["flags"]] == [NOW + 2, NOW + 1, NOW, NOW - 50, NOW - 50, NOW - 50]
    assert [row["payload"] for row in said["flags"][:3]] == [
        {"category": "spam", "n": [1]},
        {"category": "spam"},
        {"category": "spam", "n": None},
    ]
    assert said["flags"][0].keys() == {"id", "agent_id", "created_at", "payload"}


def test_flags_of_unknown_or_unflagged(relay: Served) -> None:
    assert relay.get(f"/events/{'a' * 64}/flags").json() == {"event_id": "a" * 64, "flag_count": 0, "flags": []}
    assert relay.get("/events/short/flags").code == "bad_event_id"


# -- one event, one author


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("a" * 64, 404, "event_not_found"),
        ("z" * 64, 404, "event_not_found"),
        ("a" * 63, 400, "bad_event_id"),
        ("a" * 65, 400, "bad_event_id"),
        ("batch", 400, "bad_event_id"),
        ("cbor", 400, "bad_event_id"),
        ("dry-run", 400, "bad_event_id"),
        ("%00" + "a" * 63, 404, "event_not_found"),
        ("%C4%B0" * 64, 404, "event_not_found"),
        ("%ff" * 64, 404, "event_not_found"),
        ("a" * 63 + "%2f", 400, "bad_event_id"),
    ],
)
def test_ids_that_name_nothing(path: str, status: int, code: str, quiet: Served) -> None:
    answer = quiet.get(f"/events/{path}")
    assert (answer.status, answer.code) == (status, code) or (path.endswith("%2f") and answer.status == 404)


def test_history(relay: Served) -> None:
    events = [sign(str(number), 1, at=NOW - 20 + number) for number in range(10)]
    relay.publish(*events, sign("k2", 2), sign("", kinds.REVOKE, ["e", events[9].id]))
    said = relay.get(f"/history/{keys(1).agent_id.upper()}?kind=1&limit=4").json()
    assert (said["agent_id"], said["kind"], said["count"]) == (keys(1).agent_id, 1, 4)
    assert [event["content"] for event in said["history"]] == ["6", "7", "8", "9"]
    assert relay.get(f"/history/{keys(1).agent_id}").json()["history"] == []
    assert relay.get("/history/short").code == "bad_agent_id"
    for bad in ("kind=-1", f"kind={2**53}", "limit=0", "limit=1001", "kind="):
        assert relay.get(f"/history/{'a' * 64}?{bad}").code == "invalid_filter"


def test_damaged_row_is_left_out_and_answered_503(relay: Served) -> None:
    good, bad = sign("good"), sign("spoilt")
    relay.publish(good, bad)

    async def spoil() -> None:
        await relay.relay.store._writer.execute(
            "UPDATE events SET raw = CAST(replace(CAST(raw AS TEXT), 'spoilt', 'SPOILT') AS BLOB)"
        )
        await relay.relay.store._writer.commit()

    relay.run(spoil())
    assert ids(relay, "/events") == [good.id]
    answer = relay.get(f"/events/{bad.id}")
    assert (answer.status, answer.code) == (503, "store_damaged")


def test_acknowledged_is_visible_to_the_next_read(relay: Served) -> None:
    with relay.one_wire() as writer, relay.one_wire() as reader:
        from tests.relay.served import head, post

        for number in range(100):
            event = sign(str(number))
            assert writer.ask(post("/events", event.to_json())).status == 200
            assert reader.ask(head("GET", f"/events/{event.id}")).status == 200


# -- references


def test_references(relay: Served) -> None:
    root = sign("root", 1)
    relay.publish(root)
    near = sign("near", 2, ["e", root.id, "root"])
    far = sign("far", 2, ["e", root.id, "root"], ["e", near.id, "reply"])
    for event in (near, far, sign("other", 2, ["e", "0" * 64])):
        relay.publish(event)
    assert ids(relay, f"/events?references={root.id.upper()}") == ids(relay, f"/events?references={root.id}&kinds=2")
    assert set(ids(relay, f"/events?references={root.id}")) == {near.id, far.id}
    assert ids(relay, f"/events?references={near.id}") == [far.id]
    assert relay.get(f"/events/count?references={root.id}").json()["count"] == 2
    assert len(ids(relay, "/events?references=")) == 4
    assert relay.get("/events?references=x").status == 422


# -- branches


def test_branches(relay: Served) -> None:
    tags = {
        "none": [],
        "main": ["main"],
        "one": ["b-1"],
        "two": ["b-2"],
        "both": ["b-1", "b-2"],
        "odd": ["main", "b-1"],
    }
    for number, (text, branches) in enumerate(tags.items()):
        relay.publish(sign(text, 1, *(["branch", b] for b in branches), ["t", '["branch","x"'], at=NOW - number))
    for branch, expected in [
        ("main", ["none", "main"]),
        ("b-1", ["one", "both", "odd"]),
        ("b-1,b-2", ["one", "two", "both", "odd"]),
        ("main, b-2", ["none", "main", "two", "both"]),
        ("all", list(tags)),
        ("b-1,all", list(tags)),
        ("", list(tags)),
    ]:
        answer = relay.get(f"/events?branch={quote(branch)}")
        assert [e["content"] for e in answer.json()] == expected, branch
        assert "x-anp-branch-unknown" not in answer.headers
        assert relay.get(f"/events/count?branch={quote(branch)}").json()["count"] == len(expected)
        assert ids(relay, f"/events?branch={quote(branch)}&kinds=1&t={quote(chr(91))}") == []
    first = relay.get("/events?branch=b-1,b-2&limit=3")
    assert [e["content"] for e in first.json()] == ["one", "two", "both"] and "link" in first.headers
    answer = relay.get("/events?branch=b-9,b-1&until=5")
    assert (answer.json(), answer.headers["x-anp-branch-unknown"]) == ([], "b-9")
    for odd in ("x%0d%0ay", "%f0%9f%98%80", "a%20b"):
        answer = relay.get(f"/events?branch={odd}")
        assert answer.json() == [] and "x-anp-branch-unknown" not in answer.headers
    assert relay.get(f"/events?branch={','.join(map(str, range(17)))}").status == 422
