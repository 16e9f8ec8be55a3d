"""Four signatures that tell libsodium's rule from others; of tests/vectors/ed25519_edges.json, with its answers."""

from __future__ import annotations

__all__ = ["PROBES"]

_PROBES = {
    "torsion in key and R cancels, so the equation holds without the cofactor": (
        "48d2ac58d6e3c9c26ba08ce06e88291007c15feb9ed06b138da29929da7d5b28",
        "99d4def5a273690f03ce01feba6290cfd2d17965e88f10e5e80d740cc48555c1",
        "b4aa55a2ba00e121903fccfba6cd2c530c2df370c706a1a41661d0a33cf6c278"
        "dc75f13f8b44af432844c9c9b1ca0ce92858027cbcdcf840baebd76cafc3b305",
        True,
    ),
    "the equation holds times the cofactor only": (
        "48d2ac58d6e3c9c26ba08ce06e88291007c15feb9ed06b138da29929da7d5b28",
        "bf998f7095754bfaf46382b462e22f0bd8d39e7a87ca22ed2ea02cead3c75357",
        "c30ee855c2403298030e56009807c14f90c523af00c08c4a8162ac7357187d93"
        "8fb7c1230e1111f22c90ca20bef533b6343767ca80fb9b4628c98d49dce6170f",
        False,
    ),
    "S + L": (
        "1da2142c9972532f706a4b7a29183a636a15300f3d20159213be43d468988004",
        "99d4def5a273690f03ce01feba6290cfd2d17965e88f10e5e80d740cc48555c1",
        "2ebeab91a47c343e829bc36fb151d3cff548aa2cc3814a201a421ca511037afc"
        "9ed50ed0a92303adbd4f93e78beeb325968985a85b5bea617b1005e7705adf11",
        False,
    ),
    "R is the neutral point, and the equation holds": (
        "1da2142c9972532f706a4b7a29183a636a15300f3d20159213be43d468988004",
        "99d4def5a273690f03ce01feba6290cfd2d17965e88f10e5e80d740cc48555c1",
        "0100000000000000000000000000000000000000000000000000000000000000"
        "04105f769fe115a8831dc31a005fb1a9dd5d68baad179c9684fa7ddcb0cac105",
        False,
    ),
}

# (public key, message, signature), answer
PROBES = [
    ((bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature)), answer)
    for key, message, signature, answer in _PROBES.values()
]
