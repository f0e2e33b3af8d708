#!/usr/bin/env python3
"""Fetches LibTorch for `cargo build --features train`: PyTorch's wheel and the two CUDA libraries that it needs to start, pinned and
checked by SHA-256. They are unpacked once into the per-user cache. `.libtorch` in the project links there, and `.cargo/config.toml` points
the build to `.libtorch`. Needs pip and a network the first time only."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

VERSION = "2.11.0"
# Package, version, platform, SHA-256 of the wheel, and the parts that are unpacked.
WHEELS = {
    ("Linux", "x86_64"): [
        ("torch", VERSION, "manylinux_2_28_x86_64", "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
         ("torch/lib/", "torch/include/")),
        ("nvidia-cuda-runtime", "13.0.96", "manylinux2014_x86_64",
         "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548", ("nvidia/cu13/lib/",)),
        ("nvidia-cuda-cupti", "13.0.85", "manylinux_2_25_x86_64",
         "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8", ("nvidia/cu13/lib/libcupti",)),
    ],
}
# The libraries that the program is linked with. LibTorch's CUDA library is not among them: it is loaded only if a GPU is used.
LINKED = ("libc10.so", "libtorch.so", "libtorch_cpu.so")


def cache() -> Path:
    for name, folder in (("QUARRY_CACHE", "."), ("XDG_CACHE_HOME", "quarry"), ("HOME", ".cache/quarry")):
        if os.environ.get(name):
            return Path(os.environ[name]) / folder
    sys.exit("error: there is no cache folder: set QUARRY_CACHE")


def download(package: str, version: str, tag: str, sha256: str, folder: Path) -> Path:
    print(f"fetching {package} {version} from PyPI, once", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir",
               "--platform", tag, "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "none",
               "--dest", str(folder), f"{package}=={version}"]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob(f"{package.replace('-', '_')}-*.whl")
    digest = hashlib.sha256()
    with wheel.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != sha256:
        sys.exit(f"error: {wheel.name} is not the pinned file: SHA-256 {digest.hexdigest()}, expected {sha256}")
    return wheel


def fetch(root: Path) -> None:
    wheels = WHEELS.get((platform.system(), platform.machine()))
    if wheels is None:
        sys.exit(f"error: no pinned LibTorch for {platform.system()} on {platform.machine()}\n"
                 f"hint: install PyTorch {VERSION} and set LIBTORCH to its folder `torch`")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as staging:
        for package, version, tag, sha256, parts in wheels:
            wheel = download(package, version, tag, sha256, Path(staging))
            with zipfile.ZipFile(wheel) as archive:
                names = [name for name in archive.namelist() if name.startswith(parts)]
                archive.extractall(Path(staging) / "unpacked", names)
            wheel.unlink()
        shutil.rmtree(root, ignore_errors=True)
        (Path(staging) / "unpacked").rename(root)


def link(root: Path) -> None:
    """Fills `.libtorch` with links to the headers and the linked libraries."""
    torch = root / "torch"
    folder = Path(__file__).resolve().parent.parent / ".libtorch"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "lib").mkdir(parents=True)
    (folder / "include").symlink_to(torch / "include")
    for name in LINKED:
        (folder / "lib" / name).symlink_to(torch / "lib" / name)
    (folder / "build-version").write_text(VERSION + "\n")
    print(f"LibTorch {VERSION} is in {torch}", file=sys.stderr)


def main() -> None:
    root = cache() / f"libtorch-{VERSION}"
    if not (root / "torch" / "lib" / "libtorch_cpu.so").exists() or not (root / "nvidia").exists():
        fetch(root)
    link(root)


if __name__ == "__main__":
    main()
