# cython: language_level=3, boundscheck=False, wraparound=False
"""Which of many filters an event matches, by an inverted index instead of a loop over all of them.

Each filter is listed once, under the values of its most selective condition: authors, else `p`, else `t`,
else kinds, else under None. An event looks up its own values and checks the filters found there.
"""

cimport cython

__all__ = ["FilterSet"]

cdef frozenset _NOTHING = frozenset()


@cython.final
cdef class _Entry:
    """One registered filter: where it is listed, and the conditions its listing does not settle (None: any)."""

    cdef object key
    cdef object kinds
    cdef object authors
    cdef object t
    cdef object p
    cdef object since
    cdef object until
    cdef dict index  # the index that lists the entry ...
    cdef dict positions  # ... and, for each value it is listed under, its position in that bucket

    cdef bint admits(self, object kind, object agent_id, object created_at, object t, object p) except -1:
        return (
            (self.kinds is None or kind in self.kinds)
            and (self.authors is None or agent_id in self.authors)
            and (self.t is None or self.t in t)
            and (self.p is None or self.p in p)
            and (self.since is None or created_at >= self.since)
            and (self.until is None or created_at <= self.until)
        )


@cython.final
cdef class FilterSet:
    """Many filters, asked at once which of them an event matches.

    One thread at a time. A filter is read when it is added and must not change afterwards.
    """

    cdef dict _entries  # key -> _Entry
    # Each index: value -> bucket, a list of _Entry. A bucket that runs empty is deleted.
    cdef dict _by_author
    cdef dict _by_p
    cdef dict _by_t
    cdef dict _by_kind
    cdef dict _rest  # its one value is None

    def __cinit__(self):
        self._entries = {}
        self._by_author = {}
        self._by_p = {}
        self._by_t = {}
        self._by_kind = {}
        self._rest = {}

    def __len__(self):
        return len(self._entries)

    def add(self, key, filter_):
        """Register a filter under a key; an existing key is replaced."""
        cdef _Entry entry = _Entry.__new__(_Entry)
        cdef list bucket
        entry.key = key
        entry.kinds = filter_.kinds
        entry.authors = filter_.authors
        entry.t = filter_.t
        entry.p = filter_.p
        entry.since = filter_.since
        entry.until = filter_.until
        entry.positions = {}
        values = self._choose(entry)
        self.discard(key)
        for value in values:
            bucket = entry.index.setdefault(value, [])
            entry.positions[value] = len(bucket)
            bucket.append(entry)
        self._entries[key] = entry

    def discard(self, key):
        """Forget a key; unknown keys are ignored."""
        cdef _Entry entry = self._entries.pop(key, None)
        cdef _Entry last
        cdef list bucket
        if entry is None:
            return
        for value, position in entry.positions.items():
            bucket = entry.index[value]
            # The last entry takes the free place: constant time, however many share the bucket.
            last = bucket.pop()
            if last is not entry:
                bucket[position] = last
                last.positions[value] = position
            if not bucket:
                del entry.index[value]

    def match(self, event):
        """Give the keys of all filters that match the event, each once, in no particular order."""
        cdef list found = []
        cdef object t = _NOTHING, p = _NOTHING
        kind = event.kind
        agent_id = event.agent_id
        created_at = event.created_at
        for tag in event.tags:
            if len(tag) > 1:
                name = tag[0]
                if name == "t":
                    if t is _NOTHING:
                        t = set()
                    (<set> t).add(tag[1])
                elif name == "p":
                    if p is _NOTHING:
                        p = set()
                    (<set> p).add(tag[1])

        _collect(found, self._by_author.get(agent_id), kind, agent_id, created_at, t, p)
        for value in p:
            _collect(found, self._by_p.get(value), kind, agent_id, created_at, t, p)
        for value in t:
            _collect(found, self._by_t.get(value), kind, agent_id, created_at, t, p)
        _collect(found, self._by_kind.get(kind), kind, agent_id, created_at, t, p)
        _collect(found, self._rest.get(None), kind, agent_id, created_at, t, p)
        return found

    cdef object _choose(self, _Entry entry):
        """Choose the index for an entry, clear the condition it settles, and give the values to list."""
        if entry.authors is not None:
            entry.index = self._by_author
            values, entry.authors = entry.authors, None
        elif entry.p is not None:
            entry.index = self._by_p
            values, entry.p = (entry.p,), None
        elif entry.t is not None:
            entry.index = self._by_t
            values, entry.t = (entry.t,), None
        elif entry.kinds is not None:
            entry.index = self._by_kind
            values, entry.kinds = entry.kinds, None
        else:
            entry.index = self._rest
            values = (None,)
        return values


cdef int _collect(
    list found, list bucket, object kind, object agent_id, object created_at, object t, object p
) except -1:
    cdef _Entry entry
    if bucket is None:
        return 0
    for item in bucket:
        entry = <_Entry> item  # buckets hold nothing else
        if entry.admits(kind, agent_id, created_at, t, p):
            found.append(entry.key)
    return 0
