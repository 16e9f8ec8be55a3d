"""Our own constructions over primitives of `cryptography` and pynacl; no primitive is our own."""
