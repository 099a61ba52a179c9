"""A runtime for 64-bit ARM without a usable Python: its own ld.so and C library, Python 3.11, numpy, onnxruntime.

Called by provision.py. Made here of Debian's arm64 packages and PyPI's aarch64 wheels, as one .tar.gz that is a
function of their content alone, and kept in the cache. It needs nothing of the device but a 64-bit ARM Linux kernel, a
shell, tar and gzip, which a phone's toybox has. Refuses to keep an archive of more than MAX_MB.
"""
import gzip
import hashlib
import io
import os
import posixpath
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from harness import apt
from harness.errors import ConfigError
from harness.runtimes import wheels
from harness.runtimes.machine import Platform

PYTHON = (3, 11)                                # Debian 12's
GLIBC = (2, 36)
MAX_MB = 40
TARGET = Platform("aarch64", PYTHON, "", 64, GLIBC)
STDLIB = ("libpython3.11-minimal", "libpython3.11-stdlib")
LIBRARIES = ("libc6", "libbz2-1.0", "libexpat1", "libffi8", "libgcc-s1", "liblzma5", "libssl3", "libstdc++6", "zlib1g")
PACKAGES = ("python3.11-minimal", *STDLIB, *LIBRARIES)
LOADER = "ld-linux-aarch64.so.1"
WRAPPER = f"""\
#!/bin/sh
here=${{0%/bin/*}}
exec "$here/lib/{LOADER}" --library-path "$here/lib" --argv0 "$0" "$here/bin/python3.11" "$@"
"""
# Of the C library what programs link with; gconv, name service and the rest stay in Debian.
_SONAMES = re.compile(r"(?:ld-linux-aarch64|libc|libm|libdl|librt|libutil|libpthread|libresolv|libbz2|libexpat|libffi|"
                      r"libgcc_s|liblzma|libssl|libcrypto|libstdc\+\+|libz)\.so\.[0-9.]+\Z")
# What no agent imports, and extension modules whose libraries are left out.
_STDLIB_LEFT_OUT = re.compile(
    r"(test|idlelib|lib2to3|ensurepip|turtledemo|tkinter|pydoc_data|distutils|config-3[^/]*|sqlite3|dbm|curses|wsgiref|"
    r"xmlrpc|unittest/test|ctypes/test|__pycache__)/|(.*/)?__pycache__/|sitecustomize\.py|turtle\.py|EXTERNALLY-MANAGED|"
    r"lib-dynload/(_crypt|_ctypes_test|_curses|_dbm|_sqlite3|_test|_uuid|_xx|nis|readline|ossaudiodev|xx)")
_WHEELS_LEFT_OUT = re.compile(
    r"numpy/(f2py|distutils|_core/include|_core/lib|random/lib|typing/tests)/|(.*/)?tests?/|.*\.(pyi|pxd|pyx|h|a|c)\Z|"
    r"onnxruntime/(tools|transformers|quantization|datasets|backend)/|onnxruntime/capi/libonnxruntime\.so\.")


def archive(cache: Path, say: Callable[[str], None]) -> Path:
    """The .tar.gz; made when the cache lacks it (half a minute, 50 MB of download). Raises ConfigError."""
    onnxruntime, numpy = wheels.pins(PYTHON)
    path = cache / archive_name()
    if path.is_file():
        return path
    say("making a runtime for 64-bit ARM of Debian's packages and PyPI's wheels, once; it takes half a minute")
    part = cache / f"{path.name}.{os.getpid()}.part"
    try:
        part.mkdir(parents=True, exist_ok=True)
        requirements = [f"onnxruntime=={onnxruntime}", f"numpy=={numpy}"]
        files = contents(sorted(apt.fetch(PACKAGES, "arm64", part).glob("*.deb")),
                         wheels.download(requirements, TARGET, cache, "the runtime for 64-bit ARM"))
        data = packed(files)
        if len(data) > MAX_MB * 2 ** 20:
            raise ConfigError(f"the runtime for 64-bit ARM has {len(data) / 2 ** 20:.1f} MiB, more than {MAX_MB}; "
                              "its packages have grown, so this version of edgefleet cannot use them")
        (part / path.name).write_bytes(data)
        (part / path.name).replace(path)
    except OSError as error:
        raise ConfigError(f"cannot make the runtime for 64-bit ARM in {cache}: {error.strerror}; "
                          "free some space there and type the same command again") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return path


def archive_name() -> str:
    """Another recipe is another archive."""
    onnxruntime, numpy = wheels.pins(PYTHON)
    recipe = repr((apt.SUITE, PACKAGES, WRAPPER, _SONAMES.pattern, _STDLIB_LEFT_OUT.pattern,
                   _WHEELS_LEFT_OUT.pattern))
    version = hashlib.sha256(recipe.encode()).hexdigest()[:8]
    return f"aarch64-onnxruntime{onnxruntime}-numpy{numpy}-{version}.tar.gz"


def contents(packages: Sequence[Path], wheel_files: Sequence[Path]) -> dict[str, tuple[int, bytes]]:
    """Path in the archive -> (mode, content). Raises ConfigError when something that it needs is not in there."""
    files = {"bin/python3": (0o755, WRAPPER.encode())}
    for package in packages:
        _add_package(package, files)
    for wheel in wheel_files:
        with zipfile.ZipFile(wheel) as source:
            for name in source.namelist():
                if not name.endswith("/") and not _WHEELS_LEFT_OUT.match(name):
                    files[f"lib/python3/dist-packages/{name}"] = (0o644, source.read(name))
    needed = ("bin/python3.11", f"lib/{LOADER}", "lib/libc.so.6", "lib/libstdc++.so.6", "lib/python3.11/os.py",
              "lib/python3/dist-packages/numpy/__init__.py", "lib/python3/dist-packages/onnxruntime/__init__.py")
    lacking = [name for name in needed if name not in files]
    if lacking:
        raise ConfigError(f"the packages for 64-bit ARM lack {', '.join(lacking)}; {apt.SUITE}'s have changed, so "
                          "this version of edgefleet cannot use them")
    return files


def packed(files: dict[str, tuple[int, bytes]]) -> bytes:
    """A .tar.gz; the same files give the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, buffer, mtime=0) as zipped, \
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as target:
        for name in sorted(files):
            info = tarfile.TarInfo(name)
            info.mode, data = files[name]
            info.size = len(data)
            target.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _add_package(package: Path, files: dict[str, tuple[int, bytes]]) -> None:
    regular: dict[str, bytes] = {}
    links: dict[str, str] = {}
    for member, data in apt.members(package):
        name = posixpath.normpath(member.name).lstrip("/")
        if data is not None:
            regular[name] = data
        elif member.issym():
            links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
    for name, data in regular.items():
        inside = name.removeprefix("usr/lib/python3.11/")
        if inside != name and not _STDLIB_LEFT_OUT.match(inside):
            files[f"lib/python3.11/{inside}"] = (0o644, data)
        elif name == "usr/bin/python3.11":
            files["bin/python3.11"] = (0o755, data)
        elif name.endswith("/copyright"):       # licences travel with what they cover
            files[f"licences/{package.name.partition('_')[0]}"] = (0o644, data)
    for name in [*regular, *links]:
        soname, real = posixpath.basename(name), links.get(name, name)
        if _SONAMES.match(soname) and real in regular:
            files[f"lib/{soname}"] = (0o755, regular[real])
