"""The compiled kernels are the ones in use, unless ANPORIA_PURE_PYTHON says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import anporia_cython_ext
from anporia_cython_ext import _match, _verify

CODE = """
from anporia_wire import kernels
names = (kernels.FilterSet, kernels.verify, kernels.verify_many)
print(kernels.ACCELERATED, *sorted({each.__module__ for each in names}))
"""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "True anporia_cython_ext._match anporia_cython_ext._verify"),
        ("", "True anporia_cython_ext._match anporia_cython_ext._verify"),
        ("0", "True anporia_cython_ext._match anporia_cython_ext._verify"),
        ("1", "False anporia_wire._kernels_py"),
    ],
)
def test_switch(value: str | None, expected: str) -> None:
    # A fresh interpreter: this one may have been started with the variable set.
    env = {name: text for name, text in os.environ.items() if name != "ANPORIA_PURE_PYTHON"}
    if value is not None:
        env["ANPORIA_PURE_PYTHON"] = value
    ran = subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == expected


def test_the_package_is_ours_and_compiled() -> None:
    """No package of the same name from elsewhere, and no .py in a kernel's place."""
    ours = Path(__file__).parents[2] / "cython_ext" / "src" / "anporia_cython_ext"
    for module in (_match, _verify):
        assert module.__file__ is not None
        assert Path(module.__file__).parent == ours
        assert not module.__file__.endswith(".py")
    assert anporia_cython_ext.__all__ == ["FilterSet", "verify", "verify_many"]
