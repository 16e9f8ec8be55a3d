# cython: language_level=3, boundscheck=False, wraparound=False
"""Ed25519 with the GIL released: by the libsodium that PyNaCl carries, or as it would, by tables of known keys.

One libsodium serves the whole process, so compiled and pure kernels cannot disagree about a signature. A key that
libsodium has verified `SIGHTS` signatures of gets a table (_ed25519.h), with which a signature takes a quarter of the
time and the answer is the same. docs/decisions/0028-verification-with-tables.md says why and how that is held.
"""

import ctypes
import threading

import nacl.bindings  # not used by name: importing it runs sodium_init, which libsodium needs first
from nacl import _sodium

from ._probes import PROBES

from libc.stdint cimport uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc

__all__ = ["verify", "verify_many"]

cdef extern from "_ed25519.h" nogil:
    enum:
        ED25519_TABLES  # 0 where the compiler lacks what tables need
        GE_MANY
    ctypedef struct ge:
        pass
    ctypedef struct key_table:
        pass
    void ed25519_start()
    int ed25519_key_table(key_table *table, const uint8_t *key)
    int ed25519_below_L(const uint8_t *s)
    void ed25519_fetch(const key_table *table)
    void ed25519_sum(ge *sum, const uint8_t *s, const uint8_t *h, const key_table *table)
    void ed25519_holds(int *holds, ge *sums, const uint8_t **R, int count)
    void ed25519_encode(uint8_t *out, ge *sum)

cdef enum:
    PUBLIC_KEY_BYTES = 32  # RFC 8032, section 5.1
    SIGNATURE_BYTES = 64
    SIGHTS = 2  # signatures that hold before a table is made: it takes 27 us, and the first it serves saves 30
    # An agent may post 60 events a minute, so 8,192 of them at their limit are 8,192 a second, about what a relay
    # takes (docs/performance.md); 8,192 tables are 31.5 MB.
    TABLES = 8_192
    # Keys of which one signature has held, about 1 MB. Keys that come back later than after so many others would
    # hardly find their table again.
    NOTES = 8_192
    # With all places taken, so many signatures that a table would have served make room for one: where keys are far
    # more than tables, making tables of no use costs less than a tenth of what libsodium takes.
    PATIENCE = 8
    STATE_WORDS = 64  # room for libsodium's SHA-512 state, which has 208 bytes

ctypedef int (*detached_t)(
    const unsigned char *signature, const unsigned char *message, unsigned long long length,
    const unsigned char *public_key,
) noexcept nogil

ctypedef int (*open_t)(
    unsigned char *message, unsigned long long *length, const unsigned char *signed_message,
    unsigned long long signed_length, const unsigned char *public_key,
) noexcept nogil

ctypedef int (*init_t)(void *state) noexcept nogil
ctypedef int (*update_t)(void *state, const unsigned char *part, unsigned long long length) noexcept nogil
ctypedef int (*final_t)(void *state, unsigned char *digest) noexcept nogil
ctypedef void (*reduce_t)(unsigned char *scalar, const unsigned char *digest) noexcept nogil

cdef struct Known:  # about a key
    key_table *table  # NULL: none yet
    int held  # signatures of it that libsodium has found to hold
    bint used  # a signature has held by the table since the hand came by

cdef struct Job:
    Known *known
    const unsigned char *public_key
    const unsigned char *message
    const unsigned char *signature  # NULL: a length was wrong, nothing to verify
    unsigned long long length  # of the message
    int holds

# ---- libsodium ----

cdef detached_t _detached = NULL
cdef open_t _open = NULL
cdef init_t _init = NULL
cdef update_t _update = NULL
cdef final_t _final = NULL
cdef reduce_t _reduce = NULL

cdef uintptr_t _address(library, str name) except 0:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value

try:
    _library = ctypes.CDLL(_sodium.__file__)
    _detached = <detached_t> _address(_library, "crypto_sign_ed25519_verify_detached")
    if ED25519_TABLES and _library.crypto_hash_sha512_statebytes() <= STATE_WORDS * sizeof(uint64_t):
        _reduce = <reduce_t> _address(_library, "crypto_core_ed25519_scalar_reduce")
        _update = <update_t> _address(_library, "crypto_hash_sha512_update")
        _final = <final_t> _address(_library, "crypto_hash_sha512_final")
        _init = <init_t> _address(_library, "crypto_hash_sha512_init")  # the last: with it all are there
except (AttributeError, OSError):
    if _detached is NULL:
        # PyNaCl built with hidden symbols, as on Windows. cffi knows this function's address in any build,
        # but it wants signature and message in one piece.
        _open = <open_t> <uintptr_t> int(
            _sodium.ffi.cast("uintptr_t", _sodium.ffi.addressof(_sodium.lib, "crypto_sign_open"))
        )


cdef void _ask_libsodium(Job *job) noexcept nogil:
    if _detached is not NULL:
        job.holds = _detached(job.signature, job.message, job.length, job.public_key) == 0
    else:
        # NULL, NULL: libsodium then copies nothing out
        job.holds = _open(NULL, NULL, job.signature, job.length + SIGNATURE_BYTES, job.public_key) == 0


# ---- Tables ----

cdef class _Key:
    """A key and its table; one batch has it for itself until `_publish`, then nothing changes but `used`."""

    cdef bytes key
    cdef Known known

    def __cinit__(self, bytes key, int held):
        self.key = key
        self.known = Known(NULL, held, False)

    def __dealloc__(self):
        free(self.known.table)


# What follows is read and changed with the GIL held, and changed with this lock held besides, so that it does not
# matter where the interpreter lets another thread in. Batches hold references to the keys they use.
_lock = threading.Lock()
cdef dict _keys = {}  # bytes -> _Key with a table
cdef list _ring = []  # the same keys; the hand goes round and drops those out of use ("second chance")
cdef Py_ssize_t _hand = 0
cdef set _notes = set()  # bytes of keys of which one signature has held
cdef Py_ssize_t _missed = 0  # signatures that a table would have served since the last was made so
cdef Py_ssize_t _limit = 0  # of _keys; 0: libsodium verifies everything


cdef void _make_table(Known *known, const uint8_t *public_key) noexcept nogil:
    cdef key_table *table = <key_table *> malloc(sizeof(key_table))
    if table is not NULL and not ed25519_key_table(table, public_key):
        free(table)
        table = NULL
    known.table = table


cdef Py_ssize_t _room(Py_ssize_t wanted):
    """Count the tables that may be made: free places, else by `PATIENCE` those out of use that the hand meets next."""
    cdef Py_ssize_t room = _limit - len(_ring), step
    for step in range(0 if room else min(wanted, _missed // PATIENCE, <Py_ssize_t> len(_ring))):
        room += not (<_Key> _ring[(_hand + step) % len(_ring)]).known.used
    return room


cdef int _pass_one() except -1:
    global _hand
    (<_Key> _ring[_hand]).known.used = False
    _hand = (_hand + 1) % len(_ring)
    return 0


cdef int _publish(_Key key) except -1:
    """Let all threads use a key with a table."""
    global _missed
    if key.key in _keys or not _limit:  # another thread was quicker
        return 0
    if len(_ring) < _limit:
        _ring.append(key)
    else:
        while (<_Key> _ring[_hand]).known.used:
            _pass_one()
        del _keys[(<_Key> _ring[_hand]).key]
        _ring[_hand] = key
        _pass_one()
        _missed = max(0, _missed - PATIENCE)
    _keys[key.key] = key
    _notes.discard(key.key)
    return 0


cdef int _learn(dict fresh, Job *jobs, Py_ssize_t count) except -1:
    """Keep what a batch found out about keys, `fresh` those without a table. Only what held changes anything."""
    global _missed
    cdef _Key key
    cdef Py_ssize_t at
    with _lock:
        for key in fresh.values():
            if key.known.table is not NULL:
                _publish(key)
            elif key.known.held and _limit:
                if len(_notes) >= NOTES:
                    _notes.clear()
                _notes.add(key.key)
                if key.known.held >= SIGHTS and _ring:  # there was no room
                    _missed = min(_missed + 1, PATIENCE * GE_MANY)
                    _pass_one()
        for at in range(count):
            if jobs[at].holds and jobs[at].known is not NULL:
                jobs[at].known.used = True
    return 0


# ---- Verifying ----

cdef object _prepare(Job *job, bytes public_key, bytes message, bytes signature, dict fresh):
    """Point a job at the bytes; the caller keeps them, and the object returned, until the job is done."""
    cdef bytes joined = None
    cdef _Key key = None
    job[0] = Job(NULL, NULL, NULL, NULL, 0, False)
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return None
    job.public_key = public_key
    job.length = len(message)
    if _limit:
        key = _keys.get(public_key)
        if key is None:
            key = fresh.get(public_key)
        if key is None:
            key = fresh[public_key] = _Key(public_key, public_key in _notes)
        job.known = &key.known
    if _detached is not NULL:
        job.message = message
        job.signature = signature
        return key
    joined = signature + message
    job.signature = joined
    return joined


cdef bint _start_sum(Job *job, ge *sum) noexcept nogil:
    """s*B - h*A of RFC 8032, section 5.1.7; False if the signature fails already, for s >= L."""
    cdef uint64_t state[STATE_WORDS]
    cdef uint8_t digest[64]
    cdef uint8_t h[32]
    if not ed25519_below_L(job.signature + 32):
        return False
    ed25519_fetch(job.known.table)
    _init(state)
    _update(state, job.signature, 32)
    _update(state, job.public_key, PUBLIC_KEY_BYTES)
    _update(state, job.message, job.length)
    _final(state, digest)
    _reduce(h, digest)
    ed25519_sum(sum, job.signature + 32, h, job.known.table)
    return True


cdef void _finish_sums(Job **jobs, ge *sums, int count) noexcept nogil:
    """Say of at most `GE_MANY` jobs whether they hold; their inversions are one."""
    cdef const uint8_t *R[GE_MANY]
    cdef int holds[GE_MANY]
    cdef int at
    for at in range(count):
        R[at] = jobs[at].signature
    ed25519_holds(holds, sums, R, count)
    for at in range(count):
        jobs[at].holds = holds[at]


cdef void _run(Job *jobs, Py_ssize_t count, Py_ssize_t room) noexcept nogil:
    """Do all jobs, and make at most `room` tables for keys without one."""
    cdef ge sums[GE_MANY]
    cdef Job *summed[GE_MANY]
    cdef Job *job
    cdef int waiting = 0
    cdef Py_ssize_t at
    for at in range(count):
        job = &jobs[at]
        if job.signature is NULL:
            continue
        if job.known is not NULL and job.known.table is not NULL:
            if _start_sum(job, &sums[waiting]):
                summed[waiting] = job
                waiting += 1
                if waiting == GE_MANY:
                    _finish_sums(summed, sums, waiting)
                    waiting = 0
            continue
        _ask_libsodium(job)
        if job.known is not NULL and job.holds:
            job.known.held += 1
            if job.known.held >= SIGHTS and room > 0:
                _make_table(job.known, job.public_key)
                room -= 1
        job.known = NULL  # no use of a table
    _finish_sums(summed, sums, waiting)


def verify(bytes public_key not None, bytes message not None, bytes signature not None):
    """Say whether a 64-byte Ed25519 signature holds, by libsodium's rule; the GIL is released.

    Wrong lengths are False; anything but `bytes` raises `TypeError`.
    """
    cdef Job job
    cdef dict fresh = {}  # the key, if it has no table
    owned = _prepare(&job, public_key, message, signature, fresh)
    cdef Py_ssize_t room = _room(len(fresh))
    with nogil:
        _run(&job, 1, room)
    _learn(fresh, &job, 1)
    return job.holds != 0


def verify_many(batch):
    """Verify (public key, message, signature) triples; one answer each, in order.

    The GIL is released once for the whole batch: 500 triples of known keys take about 6 ms (bench/matching.py).
    Wrong lengths are False; anything but triples of `bytes` raises `TypeError` and verifies nothing.
    """
    # Own every object the jobs point into: with the GIL off another thread may change the caller's list.
    cdef tuple items = tuple(batch)
    cdef Py_ssize_t count = len(items), at, room
    cdef tuple triple
    cdef list owned = []
    cdef dict fresh = {}  # keys without a table, each once
    cdef Job *jobs = <Job *> malloc((count or 1) * sizeof(Job))  # malloc(0) may give NULL
    if jobs is NULL:
        raise MemoryError
    try:
        for at in range(count):
            triple = tuple(items[at])
            if len(triple) != 3 or not (type(triple[0]) is type(triple[1]) is type(triple[2]) is bytes):
                raise TypeError("a batch holds (public key, message, signature) triples of bytes")
            owned.append((triple, _prepare(&jobs[at], triple[0], triple[1], triple[2], fresh)))
        room = _room(len(fresh))
        with nogil:
            _run(jobs, count, room)
        _learn(fresh, jobs, count)
        return [jobs[at].holds != 0 for at in range(count)]
    finally:
        free(jobs)


# ---- For tests ----

def _forget(Py_ssize_t tables=TABLES):
    """Forget all keys and keep at most so many tables from now on; 0, as where there can be none: libsodium alone."""
    global _limit, _hand, _missed
    with _lock:
        _limit = tables if _init is not NULL else 0
        _keys.clear()
        _ring.clear()
        _notes.clear()
        _hand = _missed = 0


def _held():
    """Give the keys that have a table, those noted, and the bytes of one table."""
    return set(_keys), set(_notes), sizeof(key_table)


def _know(bytes public_key not None):
    """Make and publish a table; the key is one libsodium admits. False if it is no point, or tables are off."""
    cdef _Key key = _Key(public_key, SIGHTS)
    if not _limit or len(public_key) != PUBLIC_KEY_BYTES:
        return False
    _make_table(&key.known, public_key)
    if key.known.table is NULL:
        return False
    with _lock:
        _publish(key)
    return True


def _sum(bytes s not None, bytes h not None, bytes public_key not None):
    """Encode s*B - h*A by a key's table; both scalars below 2^253, lowest byte first."""
    cdef uint8_t out[32]
    cdef ge sum
    cdef _Key key = _keys[public_key]
    for scalar in (s, h):
        if len(scalar) != 32 or int.from_bytes(scalar, "little") >> 253:
            raise ValueError("not 32 bytes of a number below 2^253")
    ed25519_sum(&sum, s, h, key.known.table)
    ed25519_encode(out, &sum)
    return out[:32]


# ---- The start ----

def _agree():
    """Say whether this libsodium has the rule that tables follow, and tables follow it as compiled here."""
    answers = [expected for _, expected in PROBES]
    batch = [triple for triple, _ in PROBES]
    _forget(0)
    if verify_many(batch) != answers:
        return False
    _forget()
    return all(_know(key) for key, _, _ in batch) and verify_many(batch) == answers


ed25519_start()
# a libsodium of another rule (PyNaCl can be built with the system's) is asked every time
_forget(TABLES if _agree() else 0)
