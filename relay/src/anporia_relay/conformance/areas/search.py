"""GET /capabilities/search: offers by name, price, latency, language, tag and extension."""

from __future__ import annotations

from typing import Any

from ..check import Area, Body
from ..probe import Probe, equal, has, holds

AREA = Area("search")


def _offer(name: str, amount: float, latency: int, language: str, tag: str, uri: str) -> dict[str, Any]:
    return {
        "name": name,
        "version": "1",
        "pricing": {"amount": amount, "currency": "USD"},
        "constraints": {"p95_latency_ms": latency, "supported_languages": [language]},
        "tags": [tag],
        "extensions": [{"uri": uri}],
    }


def _offers(probe: Probe) -> tuple[str, dict[str, str]]:
    """Three providers under one made-up name: `base.fast` (dear), `base.cheap` (slow), `basement` (neither)."""
    base = f"conf.{probe.word()}"
    wanted = {
        "fast": _offer(f"{base}.fast", 9.0, 10, "sw", "conf-a", "urn:conf:a"),
        "cheap": _offer(f"{base}.cheap", 0.5, 900, "is", "conf-b", "urn:conf:b"),
        "other": {"name": f"{base}ment"},
    }
    now = probe.now() - 100
    found = {
        who: probe.said(4, {"capabilities": [offer]}, ["cap", offer["name"]], at=now + number).agent_id
        for number, (who, offer) in enumerate(wanted.items())
    }
    return base, found


def _search(probe: Probe, **params: object) -> list[str]:
    """Give who is found, in order, by their names in `_offers`."""
    base, providers = probe.once(_offers)
    names = {agent_id: who for who, agent_id in providers.items()}
    params = {name: str(value).replace("BASE", base) for name, value in params.items()}
    rows = probe.value("/capabilities/search", **params)["results"]
    return [names.get(row["provider_agent_id"], "a stranger") for row in rows]


def _finds(params: dict[str, str], wanted: list[str], *, in_order: bool) -> Body:
    def body(probe: Probe) -> None:
        got = _search(probe, **params)
        equal(got if in_order else sorted(got), wanted if in_order else sorted(wanted), f"who is found with {params}")

    return body


for _name, _claim, _params, _wanted, _in_order in [
    ("by-exact-name", "`cap` finds the name itself.", {"cap": "BASE.fast"}, ["fast"], False),
    (
        "by-dotted-prefix",
        "`cap` finds names below it, not names that merely begin so.",
        {"cap": "BASE"},
        ["fast", "cheap"],
        False,
    ),
    ("q-is-an-alias", "`q` is `cap`.", {"q": "BASE.cheap"}, ["cheap"], False),
    (
        "by-greatest-latency",
        "`max_latency_ms` bounds constraints.p95_latency_ms.",
        {"cap": "BASE", "max_latency_ms": "10"},
        ["fast"],
        False,
    ),
    (
        "by-greatest-price",
        "`max_price_usd` bounds pricing.amount.",
        {"cap": "BASE", "max_price_usd": "0.5"},
        ["cheap"],
        False,
    ),
    (
        "by-language",
        "`supported_language` must be among the offer's.",
        {"cap": "BASE", "supported_language": "is"},
        ["cheap"],
        False,
    ),
    ("by-tag", "`tag` must be among the offer's.", {"cap": "BASE", "tag": "conf-a"}, ["fast"], False),
    (
        "by-extension",
        "`extension_uri` must be among the offer's.",
        {"cap": "BASE", "extension_uri": "urn:conf:b"},
        ["cheap"],
        False,
    ),
    ("by-trust", "`min_trust` leaves out strangers.", {"cap": "BASE", "min_trust": "0.5"}, [], False),
    (
        "cheapest-first",
        "`sort_by=price` gives the cheapest first.",
        {"cap": "BASE", "sort_by": "price"},
        ["cheap", "fast"],
        True,
    ),
    (
        "fastest-first",
        "`sort_by=latency` gives the fastest first.",
        {"cap": "BASE", "sort_by": "latency"},
        ["fast", "cheap"],
        True,
    ),
    ("bounded", "`limit` bounds the results.", {"cap": "BASE", "sort_by": "price", "limit": "1"}, ["cheap"], True),
    ("finds-nothing", "A name nobody offers gives nothing.", {"cap": "BASE.none"}, [], False),
]:
    AREA.add(_name, "spec", "10", _claim, _finds(_params, _wanted, in_order=_in_order))


@AREA.spec("10")
def has_its_shape(probe: Probe) -> None:
    """The answer is {query, results, count}, each result with eight keys."""
    base, _ = probe.once(_offers)
    answer = probe.value("/capabilities/search", cap=base)
    has(answer, ("query", "results", "count"), "the answer")
    equal(answer["count"], len(answer["results"]), "count")
    for row in answer["results"]:
        names = "name version provider_agent_id metadata trust_score declared_at is_canonical score"
        has(row, names.split(), "a result")


@AREA.spec("10")
def echoes_the_query(probe: Probe) -> None:
    """`query` echoes what was asked, `sort_by` as trust unless given."""
    base, _ = probe.once(_offers)
    query = probe.value("/capabilities/search", cap=base)["query"]
    equal((query.get("cap"), query.get("sort_by")), (base, "trust"), "cap and sort_by")


@AREA.spec("10")
def first_declared_is_canonical(probe: Probe) -> None:
    """Of two offers of one name the one declared first is canonical."""
    name, now = f"conf.{probe.word()}", probe.now() - 100
    for at in (now + 5, now):
        probe.said(4, {"capabilities": [{"name": name}]}, ["cap", name], at=at)
    rows = probe.value("/capabilities/search", cap=name, include_conflicts="true")["results"]
    got = sorted((row["declared_at"], row["is_canonical"]) for row in rows)
    equal(got, [(now, True), (now + 5, False)], "declared_at and is_canonical")


@AREA.spec("10")
def conflicts_are_shown_unless_refused(probe: Probe) -> None:
    """Offers of one name by several agents all come, unless `include_conflicts=false`."""
    name = f"conf.{probe.word()}"
    for _ in range(2):
        probe.said(4, {"capabilities": [{"name": name}]}, ["cap", name])
    counts = [
        len(probe.value("/capabilities/search", cap=name, **params)["results"])
        for params in ({}, {"include_conflicts": "true"}, {"include_conflicts": "false"})
    ]
    equal(counts, [2, 2, 1], "results by default, with conflicts, without")


@AREA.spec("10")
def reads_the_newest_declaration(probe: Probe) -> None:
    """Only an agent's newest kind 4 counts."""
    key, old, new, now = probe.key(), f"conf.{probe.word()}", f"conf.{probe.word()}", probe.now() - 100
    probe.said(4, {"capabilities": [{"name": new}]}, by=key, at=now + 1)
    probe.said(4, {"capabilities": [{"name": old}]}, by=key, at=now)
    counts = [probe.value("/capabilities/search", cap=name)["count"] for name in (old, new)]
    equal(counts, [0, 1], "offers of the old and the new declaration")


def _refuses(params: dict[str, str]) -> Body:
    def body(probe: Probe) -> None:
        probe.refused("/capabilities/search", 422, **params)

    return body


for _name, _params in [
    ("unknown-order", {"sort_by": "beauty"}),
    ("limit-zero", {"limit": "0"}),
    ("limit-201", {"limit": "201"}),
    ("negative-latency", {"max_latency_ms": "-1"}),
    ("negative-price", {"max_price_usd": "-1"}),
    ("trust-in-words", {"min_trust": "much"}),
]:
    AREA.add(f"{_name}-refused", "spec", "10", f"{next(iter(_params.items()))} is 422.", _refuses(_params))


@AREA.spec("10")
def offers_without_a_figure_are_left_out_by_its_bound(probe: Probe) -> None:
    """An offer that says no price or latency does not pass a bound on it."""
    base, _ = probe.once(_offers)
    for params in ({"max_price_usd": "1000"}, {"max_latency_ms": "1000000"}):
        rows = probe.value("/capabilities/search", cap=f"{base}ment", **params)["results"]
        holds(rows == [], f"nothing with {params}", rows)
