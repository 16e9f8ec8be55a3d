"""Builds anporia.mcpb, which Claude Desktop installs by a double click: `build.py --out dist`.

The bundle is of type `uv`: its host has uv install what pyproject.toml asks for, on any system, with no Python needed
before. Our own packages lie inside as wheels, for the public index has packages of others under some of their names;
what those need comes from the index, in the exact versions of constraints.txt.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

__all__ = ["build", "folder_of", "project"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MEMBERS = ("wire", "client", "mcp_server")
_TIME = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold: the same files make the same bundle


def project(version: str, wheels: Iterable[str], pins: Iterable[str]) -> str:
    """Give the pyproject.toml from which uv makes the server's environment. A wheel is named by its file."""
    names = {wheel.partition("-")[0].replace("_", "-"): wheel for wheel in sorted(wheels)}
    lines = [
        "[project]",
        'name = "anporia-bundle"',
        f"version = {json.dumps(version)}",
        'requires-python = ">=3.11"',
        f"dependencies = {json.dumps([f'{name}=={version}' for name in names])}",
        "",
        "[tool.uv]",
        "package = false",
        f"constraint-dependencies = {json.dumps(list(pins), indent=2)}",
        "",
        "[tool.uv.sources]",
        *(f"{name} = {{ path = {json.dumps(f'wheels/{wheel}')} }}" for name, wheel in names.items()),
    ]
    return "\n".join(lines) + "\n"


def folder_of(folder: Path) -> None:
    """Put all that the bundle holds into a folder. Raises `CalledProcessError` if a wheel cannot be built."""
    wheels = folder / "wheels"
    for member in MEMBERS:
        command = [sys.executable, "-m", "build", "--wheel", "--installer", "uv", "--outdir", str(wheels), member]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    version: str = tomllib.loads((ROOT / "mcp_server" / "pyproject.toml").read_text())["project"]["version"]
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    built = [path.name for path in wheels.glob("*.whl")]
    manifest = json.loads((HERE / "manifest.json").read_text())
    manifest |= {"version": version, "tools": [{"name": name} for name in _tools()]}
    (folder / "src").mkdir()
    (folder / "src" / "main.py").write_bytes((HERE / "main.py").read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    (folder / "pyproject.toml").write_text(project(version, built, pins))
    (folder / "LICENSE").write_bytes((ROOT / "LICENSE").read_bytes())


def build(out: Path) -> Path:
    """Write the bundle into the folder `out`; gives its path."""
    out.mkdir(parents=True, exist_ok=True)
    bundle = out / "anporia.mcpb"
    with tempfile.TemporaryDirectory() as made:
        folder_of(Path(made))
        with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(path for path in Path(made).rglob("*") if path.is_file()):
                about = zipfile.ZipInfo(path.relative_to(made).as_posix(), _TIME)
                about.external_attr = 0o644 << 16
                file.writestr(about, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return bundle


def _tools() -> tuple[str, ...]:
    from anporia_mcp_server.settings import DEFAULT_TOOLS, chosen

    return chosen(DEFAULT_TOOLS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build anporia.mcpb.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder; dist by default")
    made = build(parser.parse_args().out)
    sys.stdout.write(f"{made} {made.stat().st_size / 1024:.0f} kB\n")
