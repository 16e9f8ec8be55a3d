# cython: language_level=3, boundscheck=False, wraparound=False
"""Ed25519 by the libsodium that PyNaCl carries, with the GIL released.

One libsodium serves the whole process, so compiled and pure kernels cannot disagree about a signature.
"""

import ctypes

import nacl.bindings  # not used by name: importing it runs sodium_init, which libsodium needs first
from nacl import _sodium

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

__all__ = ["verify", "verify_many"]

# RFC 8032, section 5.1
cdef enum:
    PUBLIC_KEY_BYTES = 32
    SIGNATURE_BYTES = 64

ctypedef int (*detached_t)(
    const unsigned char *signature, const unsigned char *message, unsigned long long length,
    const unsigned char *public_key,
) noexcept nogil

ctypedef int (*open_t)(
    unsigned char *message, unsigned long long *length, const unsigned char *signed_message,
    unsigned long long signed_length, const unsigned char *public_key,
) noexcept nogil

cdef struct Job:
    const unsigned char *public_key
    const unsigned char *message
    const unsigned char *signature  # NULL: a length was wrong, nothing to verify
    unsigned long long length  # of the message
    bint holds

cdef detached_t _detached = NULL
cdef open_t _open = NULL

try:
    _detached = <detached_t> <uintptr_t> ctypes.cast(
        ctypes.CDLL(_sodium.__file__).crypto_sign_ed25519_verify_detached, ctypes.c_void_p
    ).value
except (AttributeError, OSError):
    # PyNaCl built with hidden symbols, as on Windows. cffi knows this function's address in any build,
    # but it wants signature and message in one piece.
    _open = <open_t> <uintptr_t> int(
        _sodium.ffi.cast("uintptr_t", _sodium.ffi.addressof(_sodium.lib, "crypto_sign_open"))
    )


cdef object _prepare(Job *job, bytes public_key, bytes message, bytes signature):
    """Point a job at the bytes; the caller keeps them, and the object returned, until the job is done."""
    cdef bytes joined = None
    job.holds = False
    job.signature = NULL
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return None
    job.public_key = public_key
    job.length = len(message)
    if _detached is not NULL:
        job.message = message
        job.signature = signature
    else:
        joined = signature + message
        job.signature = joined
    return joined


cdef void _run(Job *job) noexcept nogil:
    if job.signature is NULL:
        return
    if _detached is not NULL:
        job.holds = _detached(job.signature, job.message, job.length, job.public_key) == 0
    else:
        # NULL, NULL: libsodium then copies nothing out
        job.holds = _open(NULL, NULL, job.signature, job.length + SIGNATURE_BYTES, job.public_key) == 0


def verify(bytes public_key not None, bytes message not None, bytes signature not None):
    """Say whether a 64-byte Ed25519 signature holds, by libsodium's rule; the GIL is released.

    Wrong lengths are False; anything but `bytes` raises `TypeError`.
    """
    cdef Job job
    owned = _prepare(&job, public_key, message, signature)
    with nogil:
        _run(&job)
    return job.holds != 0


def verify_many(batch):
    """Verify (public key, message, signature) triples; one answer each, in order.

    The GIL is released once for the whole batch: 500 triples take about 22 ms (bench/matching.py).
    Wrong lengths are False; anything but triples of `bytes` raises `TypeError` and verifies nothing.
    """
    # Own every object the jobs point into: with the GIL off another thread may change the caller's list.
    cdef tuple items = tuple(batch)
    cdef Py_ssize_t count = len(items), at
    cdef tuple triple
    cdef list owned = []
    cdef Job *jobs = <Job *> malloc((count or 1) * sizeof(Job))  # malloc(0) may give NULL
    if jobs is NULL:
        raise MemoryError
    try:
        for at in range(count):
            triple = tuple(items[at])
            if len(triple) != 3 or not (type(triple[0]) is type(triple[1]) is type(triple[2]) is bytes):
                raise TypeError("a batch holds (public key, message, signature) triples of bytes")
            owned.append((triple, _prepare(&jobs[at], triple[0], triple[1], triple[2])))
        with nogil:
            for at in range(count):
                _run(&jobs[at])
        return [jobs[at].holds != 0 for at in range(count)]
    finally:
        free(jobs)
