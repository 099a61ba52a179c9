"""Google's own adbd for the lab's phones, built once from Debian's source package android-platform-tools and cached.

Called by lab.py. Nothing is installed: sources and libraries are fetched by apt with lists of its own, verified by
apt's signatures, and unpacked into the cache; neither they nor the binary are ever committed. ALLOW_ADBD_NO_AUTH lets
any client in, which is right inside a network namespace and nowhere else. Refuses to guess about another version.
"""
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import apt
from harness.errors import ConfigError

VERSION = "29.0.6-28"
PACKAGE = f"android-platform-tools={VERSION}"
ORIG_SHA256 = "dbd241642af17fe545a91c4b54d79867f94abfb64c1f4ed759aea5b85334a633"
LIBRARIES = (*(name + suffix for name in ("android-libbase", "android-libcutils", "android-liblog",
                                          "android-libboringssl") for suffix in ("", "-dev")), "libcap-dev")
PROGRAMS = {"apt-get": "apt", "dpkg-deb": "dpkg", "g++": "g++", "gcc": "gcc", "patch": "patch", "tar": "tar",
            "xz": "xz-utils"}
BUILD_S = 900.0
WITHOUT_PHONES = "Without phones the lab starts all the same: edgefleet lab up --adb 0"

ADB = "system/core/adb"
DAEMON = (
    "adb", "adb_io", "adb_listeners", "adb_trace", "adb_unique_fd", "adb_utils", "fdevent/fdevent",
    "fdevent/fdevent_poll", "fdevent/fdevent_epoll", "services", "sockets", "socket_spec", "sysdeps/errno",
    "sysdeps_unix", "sysdeps/posix/network", "transport", "transport_fd", "transport_local", "transport_usb",
    "types", "shell_service_protocol", "daemon/auth", "daemon/jdwp_service", "daemon/usb_dummy",
    "daemon/file_sync_service", "daemon/services", "daemon/shell_service", "daemon/main",
    "adbconnection/adbconnection_server",
)
UNITS = (
    *(f"{ADB}/{name}.cpp" for name in DAEMON),
    "system/core/diagnose_usb/diagnose_usb.cpp", "system/core/libcrypto_utils/android_pubkey.c",
    "frameworks/native/libs/adbd_auth/adbd_auth.cpp", "system/core/libasyncio/AsyncIO.cpp",
)
INCLUDES = (
    ADB, f"{ADB}/daemon/include", f"{ADB}/adbconnection/include", "system/core/base/include",
    "system/core/diagnose_usb/include", "system/core/libcutils/include", "system/core/include",     # in this order
    "system/core/libcrypto_utils/include", "system/core/libasyncio/include", "frameworks/native/libs/adbd_auth/include",
)
DEFINES = (                                     # ADB_HOST=0: the device's side
    "-D_GNU_SOURCE", "-DADB_HOST=0", "-DALLOW_ADBD_ROOT=0", "-DALLOW_ADBD_NO_AUTH=1",
    '-DPLATFORM_TOOLS_VERSION="29.0.6"', '-DADB_VERSION="29.0.6"', "-DNO_THREAD_SAFETY_ANNOTATIONS",
    "-DANDROID_BASE_UNIQUE_FD_DISABLE_IMPLICIT_CONVERSION=1",
)
CXX = ("-O2", "-std=gnu++2a", "-w", "-include", "optional", "-include", "atomic", "-include", "string")


def adbd(cache: Path, say: Callable[[str], None]) -> Path:
    """The binary; built when the cache lacks it (about a minute and 90 MB of download). Raises ConfigError."""
    folder = cache / f"adbd-{VERSION}"
    if (folder / "adbd").is_file():
        return folder / "adbd"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "adbd.lock").open("a") as lock:   # who comes second finds it built
        fcntl.flock(lock, fcntl.LOCK_EX)
        return folder / "adbd" if (folder / "adbd").is_file() else _built(folder, say)


def _built(folder: Path, say: Callable[[str], None]) -> Path:
    _need_programs()
    say(f"building adbd {VERSION} from Debian's source package, once; it takes a minute or two")
    part = folder.with_name(folder.name + f".{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        libraries = _fetch(part)
        _build(_unpacked(part), libraries, part)
        _keep_what_runs(part)
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder / "adbd"


def _need_programs() -> None:
    packages = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if packages:
        raise ConfigError("building adbd needs programs that are not here; type: "
                          f"apt-get install {' '.join(packages)}\n"
                          f"{WITHOUT_PHONES}")


def _fetch(part: Path) -> Path:
    """Downloads the source package and unpacks the libraries; the folder that stands for / of the latter."""
    try:
        downloads = apt.fetch(LIBRARIES, "", part, PACKAGE)
    except ConfigError as error:
        raise ConfigError(f"adbd cannot be built: {error}\n{WITHOUT_PHONES}") from None
    root = part / "root"
    for package in sorted(downloads.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(root)], downloads)
    return root


def _unpacked(part: Path) -> Path:
    """The patched sources of adbd and of what it needs."""
    downloads = part / "downloads"
    orig = next(downloads.glob("*.orig.tar.*"))
    if hashlib.sha256(orig.read_bytes()).hexdigest() != ORIG_SHA256:
        raise ConfigError(f"{orig.name} is not the source that the lab knows; adbd is not built from it")
    _run(["tar", "xf", str(next(downloads.glob("*.debian.tar.*")))], part)
    _run(["tar", "xf", str(orig), "--wildcards", "*/system/core/*", "*/frameworks/native/libs/adbd_auth/*"], part)
    source = next(path for path in part.glob("android-platform-tools-*") if path.is_dir())
    for name in (part / "debian/patches/series").read_text().split():
        if name.startswith(("system/core/", "cve/")):       # the others touch files outside this subset
            _run(["patch", "-p1", "-s", "-i", str(part / "debian/patches" / name)], source)
    listeners = source / ADB / "adb_listeners.cpp"         # annotations on definitions: clang takes them, g++ does not
    listeners.write_text(re.sub(r" +(EXCLUDES|REQUIRES)\([^)]*\)", "", listeners.read_text()))
    return source


def _build(source: Path, libraries: Path, part: Path) -> None:
    """Compiles and links; the libraries' place is given relative to the binary, so that the cache may move."""
    headers = [f"-I{libraries}/usr/include/android", f"-I{libraries}/usr/include", *(f"-I{name}" for name in INCLUDES)]
    objects = [part / (unit.replace("/", "_") + ".o") for unit in UNITS]

    def compile_one(unit: str, target: Path) -> None:
        compiler = ["gcc", "-O2", "-w"] if unit.endswith(".c") else ["g++", *CXX, *DEFINES]
        _run([*compiler, *headers, "-c", unit, "-o", str(target)], source)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, UNITS, objects))
    folder = next((libraries / "usr/lib").glob("*/android"))
    relative = folder.relative_to(part)
    _run(["g++", *map(str, objects), "-o", str(part / "adbd"), f"-L{folder}", f"-Wl,-rpath=$ORIGIN/{relative}",
          "-lbase", "-lcutils", "-llog", "-lcrypto", "-lresolv", "-lutil", "-lpthread"], source)


def _keep_what_runs(part: Path) -> None:
    """Sources, objects and headers go; the binary and its libraries stay."""
    for path in part.iterdir():
        if path.name not in ("adbd", "root"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in [*(part / "root").glob("*"), *(part / "root/usr").glob("*"), *(part / "root/usr/lib").glob("*/*")]:
        if path.name not in ("usr", "lib", "android"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _run(argv: Sequence[str], cwd: Path) -> None:
    done = subprocess.run(argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=BUILD_S, check=False)
    if done.returncode:
        tail = "\n".join(done.stdout.decode("utf-8", "replace").splitlines()[-8:])
        raise ConfigError(f"building adbd failed at `{argv[0]} {argv[1]}`:\n{tail}\n"
                          f"{WITHOUT_PHONES}")
