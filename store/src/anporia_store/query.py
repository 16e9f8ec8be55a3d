"""From a filter to SQL. Table-tested, held equal to `Filter.matches`, and its plans are tested too.

A query is driven by one index: one arm per value of the most selective field, each arm already in
newest-first order, merged without a sort up to the limit. The other fields are checked on the way.
Full ids and tag values are compared in the row's bytes, since an integer key only finds candidates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import orjson

from anporia_wire import Filter, is_id

from .cursor import Cursor, RankCursor

__all__ = [
    "DISTRUSTED",
    "FLAGGED",
    "HIDDEN",
    "INDEXED_TAGS",
    "INLINE_BYTES",
    "LOBBY",
    "PROBE_ROWS",
    "RAW",
    "REVOKED",
    "SMALL",
    "Query",
    "Statement",
    "author_key",
    "conditions",
    "count_statement",
    "id_key",
    "list_statement",
    "paths",
    "probe_statement",
    "replay_statement",
    "shared_args",
    "tag_key",
]

REVOKED, FLAGGED, LOBBY, DISTRUSTED = 1, 2, 4, 8  # bits of events.mark
HIDDEN = FLAGGED | DISTRUSTED  # by the number of those who flagged, or by their trust

INDEXED_TAGS = frozenset({"t", "p", "e", "branch"})  # what queries, threads and flags ask for

INLINE_BYTES = 8_192  # larger events are read apart: 1,000 of 512 KiB in one answer would be half a gigabyte

PROBE_ROWS = 1_000  # counting this far costs about 30 us an index and settles which is smaller

_INT64_MAX = 2**63 - 1
_TAG_PATHS = ("t", "p", "e", "branch")
MAIN = "main"  # the branch of events that name no other (WIRE section 8)


@dataclass(frozen=True, slots=True)
class Query:
    """A filter, at most how many rows (1 ... 1,000), where to begin, and which marks hide a row.

    `e`: only events with an `e` tag of this value. `branches`: only events that name one of these in a `branch`
    tag; `main` is where events are that name no other. `match`: only events that the search index finds for this
    (`words.match_expression`); after a `RankCursor` the best first instead of newest first.
    """

    filter: Filter
    limit: int = 100
    after: Cursor | RankCursor | None = None
    hide: int = REVOKED | HIDDEN
    e: str | None = None
    match: str | None = None
    branches: frozenset[str] | None = None

    @property
    def place(self) -> Cursor | None:
        """Where to begin in a newest-first list."""
        return self.after if isinstance(self.after, Cursor) else None


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL and its named arguments; values that stand in every arm are bound once."""

    sql: str
    args: Mapping[str, object]


def id_key(event_id: str) -> int:
    """Map an id to the integer whose descending order is the id's ascending order."""
    return _INT64_MAX - int(event_id[:16], 16)


def author_key(agent_id: str) -> int:
    """Map an agent id to its integer key."""
    return int(agent_id[:16], 16) - 2**63


def tag_key(secret: bytes, name: str, value: str) -> int:
    """Hash a tag's name and value with the database's own secret into its integer key."""
    digest = blake2b(f"{name}\0{value}".encode("utf-8", "surrogatepass"), digest_size=8, key=secret).digest()
    return int.from_bytes(digest, "big", signed=True)


def paths(query: Query) -> list[str]:
    """Name the indexes that could drive this query, the usually most selective first."""
    if query.e is not None:  # an event is referred to by far fewer than match anything else
        return ["e"]
    if query.branches is not None and MAIN not in query.branches:  # few events name a branch at all
        return ["branch"]
    found = [name for name in ("authors", "p", "t", "kinds") if getattr(query.filter, name) is not None]
    return found or ["time"]


def probe_statement(query: Query, secret: bytes) -> Statement:
    """Count how many rows each path would visit, up to `PROBE_ROWS` a value: one column a path."""
    columns: list[str] = []
    args = shared_args(query)
    for path in paths(query):
        arms = _arms(query, path, secret)
        args |= {name: value for _, name, value in arms if name}
        counts = (
            f"(SELECT count(*) FROM (SELECT 1 FROM {source} WHERE {_and(term, *_time_range(query.filter, None))}"
            f" LIMIT {PROBE_ROWS}))"
            for source, term in ((_source(path), _driving_term(path, name)) for _, name, _ in arms)
        )
        columns.append(" + ".join(counts) or "0")
    return Statement(f"SELECT {', '.join(columns)}", args)


def list_statement(query: Query, path: str, secret: bytes) -> Statement | None:
    """Select (seq, raw, size, created_at, idkey), newest first, at most limit + 1 rows, driven by `path`.

    `raw` is NULL for events of more than `INLINE_BYTES`. None when no row can match: every author given is no agent id.
    """
    selects, args = _selects(query, path, secret)
    if not selects:
        return None
    wanted = query.limit + 1  # the extra row tells whether there is a next page
    # ORDER BY on the whole: SQLite then takes from each arm, which is in that order, only what it merges. Sorted and
    # cut arm by arm, 50 authors took 6.5 ms instead of 0.25.
    merged = _union(path).join(
        f"SELECT k.seq AS seq, k.created_at AS created_at, k.idkey AS idkey {select}" for select in selects
    )
    sql = (
        f"SELECT m.seq, {SMALL.format('r')}, m.created_at, m.idkey FROM"
        f" (SELECT seq, created_at, idkey FROM ({merged} ORDER BY 2 DESC, 3 DESC LIMIT {wanted})) m"
        f" CROSS JOIN events r ON r.seq = m.seq ORDER BY m.created_at DESC, m.idkey DESC"
    )
    return Statement(sql, args)


def count_statement(query: Query, path: str, secret: bytes, most: int) -> Statement | None:
    """Count the rows that match, stopping at `most`; None when no row can match."""
    selects, args = _selects(query, path, secret)
    if not selects:
        return None
    merged = _union(path).join(f"SELECT * FROM (SELECT k.seq {select} LIMIT {most})" for select in selects)
    return Statement(f"SELECT count(*) FROM (SELECT 1 FROM ({merged}) LIMIT {most})", args)


def _union(path: str) -> str:
    """An event has one author and one kind, so it is in one arm; it may name several branches."""
    return " UNION " if path == "branch" else " UNION ALL "


def _selects(query: Query, path: str, secret: bytes) -> tuple[list[str], dict[str, object]]:
    """Give FROM and WHERE of each arm, the driving row being `k`, and the arguments of all."""
    arms = _arms(query, path, secret)
    row, source = "k", _source(path)
    if path in _TAG_PATHS:
        row, source = "e", f"{source} CROSS JOIN events e ON e.seq = k.seq"
    checks = conditions(query, path, row)
    args = shared_args(query) | {name: value for _, name, value in arms if name}
    full_ids = [""] * len(arms)
    if path == "authors":  # each arm has its own author, so that two of one key share no row
        full_ids = [f" AND substr(k.raw, 86, 64) = :{name}_id" for _, name, _ in arms]
        args |= {f"{name}_id": id_.encode() for (_, name, _), id_ in zip(arms, _ids(query.filter.authors), strict=True)}
    selects = [
        f"FROM {source} WHERE {_and(_driving_term(path, name), *checks)}{full_id}"
        for (_, name, _), full_id in zip(arms, full_ids, strict=True)
    ]
    return selects, args


def conditions(query: Query, path: str, row: str) -> list[str]:
    """Give the terms that `path` leaves open; `row` names the table that holds the event's bytes."""
    return [*_time_range(query.filter, query.place), *_residual(query, path, row, query.hide)]


def replay_statement(after: int, up_to: int, filter_: Filter, limit: int) -> Statement:
    """Select (seq, raw, size) of a stretch of the log, in seq order, checked row by row; `raw` as in lists."""
    checks = [*_time_range(filter_, None), *_residual(Query(filter_), "log", "k", 0)]
    sql = (
        f"SELECT k.seq, {SMALL.format('k')} FROM events k NOT INDEXED"
        f" WHERE {_and('k.seq > :after AND k.seq <= :up_to', *checks)}"
        f" ORDER BY k.seq LIMIT :limit"
    )
    return Statement(sql, shared_args(Query(filter_)) | {"after": after, "up_to": up_to, "limit": limit})


# A damaged row header may make text or nothing of the bytes: these are bytes at any rate.
RAW = "coalesce(CAST({0}.raw AS BLOB), x'')"
SMALL = f"CASE WHEN length({{0}}.raw) <= {INLINE_BYTES} THEN {RAW} END, coalesce(length({{0}}.raw), 0)"


def _arms(query: Query, path: str, secret: bytes) -> list[tuple[str, str, object]]:
    """Give (path, parameter name, value) for each value of the driving field."""
    values: Sequence[object]
    filter_ = query.filter
    if path == "authors":
        values = [author_key(agent_id) for agent_id in _ids(filter_.authors)]
    elif path == "kinds":
        values = sorted(filter_.kinds or ())
    elif path == "branch":
        values = [tag_key(secret, path, branch) for branch in sorted(query.branches or ())]
    elif path in _TAG_PATHS:
        values = [tag_key(secret, path, str(query.e if path == "e" else getattr(filter_, path)))]
    else:
        return [(path, "", None)]
    return [(path, f"{path}{at}", value) for at, value in enumerate(values)]


def _source(path: str) -> str:
    """Name the driving row `k` and pin its index: the planner's own choice was up to 15,000 times slower."""
    if path in _TAG_PATHS:
        return "tags k"
    index = {"authors": "events_author", "kinds": "events_kind", "time": "events_time"}[path]
    return f"events k INDEXED BY {index}"


def _driving_term(path: str, parameter: str) -> str:
    column = {
        "authors": "k.author",
        "kinds": "k.kind",
        "t": "k.tag",
        "p": "k.tag",
        "e": "k.tag",
        "branch": "k.tag",
    }.get(path)
    return f"{column} = :{parameter}" if column else "1"


def _time_range(filter_: Filter, after: Cursor | None) -> Iterator[str]:
    if filter_.since is not None:
        yield "k.created_at >= :since"
    # Of two upper bounds SQLite takes the first for its index: with `until` there, page 1,000 would walk
    # over the 999 before it.
    if after is not None and (filter_.until is None or after.created_at <= filter_.until):
        yield "(k.created_at, k.idkey) < (:after_time, :after_key)"
    elif filter_.until is not None:
        yield "k.created_at <= :until"


def _residual(query: Query, path: str, row: str, hide: int) -> Iterator[str]:
    """Yield what the driving index has not settled; `row` names the table that holds the event's bytes.

    Terms on columns of the index come first: they spare the row.
    """
    filter_ = query.filter
    if filter_.kinds is not None and path != "kinds":
        yield "k.kind IN (SELECT value FROM json_each(:kinds))"
    if hide:
        yield f"({row}.mark & {hide}) = 0"
    if filter_.authors is not None and path != "authors":
        yield f"CAST(substr({row}.raw, 86, 64) AS TEXT) IN (SELECT value FROM json_each(:authors))"
    for name in ("t", "p"):
        if getattr(filter_, name) is not None:
            yield f"instr({row}.raw, :{name}_text) > 0"
    if query.e is not None:
        yield f"instr({row}.raw, :e_text) > 0"
    if query.branches is not None:
        named = [f"instr({row}.raw, :branch{at}_text) > 0" for at in range(len(query.branches - {MAIN}))]
        if MAIN in query.branches:
            others = f"replace(CAST({row}.raw AS TEXT), CAST(:main_text AS TEXT), '')"
            named += [f"instr({row}.raw, :branch_text) = 0", f"instr({others}, CAST(:branch_text AS TEXT)) = 0"]
        yield f"({' OR '.join(named)})"


def shared_args(query: Query) -> dict[str, object]:
    """Bind what any term may name; SQLite ignores a name that the statement does not use."""
    filter_, after = query.filter, query.place
    return {
        "since": filter_.since,
        "until": filter_.until,
        "after_time": after.created_at if after else None,
        "after_key": after.idkey if after else None,
        "kinds": orjson.dumps(sorted(filter_.kinds or ())).decode(),
        "authors": orjson.dumps(_ids(filter_.authors)).decode(),
        "t_text": _tag_text("t", filter_.t),
        "p_text": _tag_text("p", filter_.p),
        "e_text": _tag_text("e", query.e),
        "branch_text": b'["branch","',
        "main_text": _tag_text("branch", MAIN),
        **{
            f"branch{at}_text": _tag_text("branch", b)
            for at, b in enumerate(sorted((query.branches or set()) - {MAIN}))
        },
    }


def _tag_text(name: str, value: str | None) -> bytes:
    """Give the bytes `["t","value"` as `Event.to_json` writes them.

    An unescaped quote occurs only around a JSON string, so inside `raw` these bytes can only be the
    beginning of a tag; a value with lone surrogates is in no event.
    """
    try:
        return orjson.dumps([name, value or ""])[:-1]
    except TypeError:
        return b"\x00"  # JSON never holds a raw NUL


def _ids(authors: frozenset[str] | None) -> list[str]:
    """Keep what can be an agent id at all: anything else matches nothing."""
    return sorted(a for a in authors or () if is_id(a))


def _and(*terms: str) -> str:
    return " AND ".join(terms)
