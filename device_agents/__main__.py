"""The agent's verbs: probe profile run serve wait stop collect missing clean gc list. JSON on stdout, words on stderr.

    PYTHON agent.pyz VERB --home H ...

Exit 0 ok · 1 a bug (with its traceback) · 2 bad input · 3 unsupported here · 4 not now: busy with a trial, disk full ·
5 the device's files fail: read-only, broken, not ours.
Each verb imports what it needs, and nothing before: `run` and `wait` lie on the way between two trials.
"""
import argparse
import errno
import json
import os
import signal
import sys
from typing import Any, List, Optional

import device_agents


def main(argv: Optional[List[str]] = None) -> int:
    arguments = _parser().parse_args(argv)
    os.umask(0o077)
    archive = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if os.path.isfile(archive):
        device_agents.__path__[:] = _unpacked(archive, os.path.abspath(arguments.home)) or device_agents.__path__
    from device_agents.seams import Unsupported, UserError
    from device_agents.trial_folder import BadOrder, Busy
    try:
        return int(arguments.verb(arguments))
    except (BadOrder, UserError) as error:
        print("edgefleet agent: %s" % error, file=sys.stderr)
        return 2
    except Unsupported as error:
        print("edgefleet agent: %s" % error, file=sys.stderr)
        return 3
    except Busy as error:
        print("edgefleet agent: %s" % error, file=sys.stderr)
        return 4
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        print("edgefleet agent: %s%s" % (error, "; free some space on this device" if full else ""), file=sys.stderr)
        return 4 if full else 5


def _unpacked(archive: str, home: str) -> List[str]:
    """Where the agent lies unpacked and compiled below H; [] when it cannot. Out of a zip, Python compiles every time,
    which is most of a small board's start-up."""
    stat = os.stat(archive)
    name = "%x-%x-%s" % (stat.st_size, int(stat.st_mtime * 1e6), sys.implementation.cache_tag)
    folder = os.path.join(home, "code", name)
    if not os.path.isdir(folder):
        part = "%s.%d.part" % (folder, os.getpid())
        try:
            import compileall
            import zipfile
            os.makedirs(part, mode=0o700)
            with zipfile.ZipFile(archive) as source:
                source.extractall(part)
            compileall.compile_dir(part, ddir=folder, quiet=2)
            os.rename(part, folder)
        except OSError:                         # no room, no rights, or somebody else was faster
            import shutil
            shutil.rmtree(part, ignore_errors=True)
            if not os.path.isdir(folder):
                return []
    return [os.path.join(folder, "device_agents")]


def _run(arguments: Any) -> int:
    from device_agents import launch
    if arguments.clean:
        from device_agents import store, trial_folder
        store.clean([trial_folder.TrialFolder(arguments.home, name) for name in arguments.clean])
    return launch.run(arguments.home, arguments.trial, arguments.detach, arguments.warm_s)


def _serve(arguments: Any) -> int:
    from device_agents import serve
    return _print(serve.serve(arguments.home, sys.stdin.read()))


def _wait(arguments: Any) -> int:
    from device_agents import store, trial_folder
    folder = trial_folder.TrialFolder(arguments.home, arguments.trial)
    if not _wait_at_most(folder, arguments.timeout_s):
        return _print({"state": "running", "bytes": 0, "sha256": None})
    found = store.describe(folder)
    _print(found)
    if arguments.collect and found["sha256"] is not None:
        store.send_journal(folder, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    return 0


def _wait_at_most(folder: Any, timeout_s: Optional[float]) -> bool:
    from device_agents import trial_folder

    class ExpiredError(Exception):
        pass

    def expire(_number: int, _frame: Any) -> None:
        raise ExpiredError

    if timeout_s is not None:
        signal.signal(signal.SIGALRM, expire)
        signal.setitimer(signal.ITIMER_REAL, max(timeout_s, 1e-3))
    try:
        trial_folder.wait_for_end(folder)
        return True
    except ExpiredError:
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def _stop(arguments: Any) -> int:
    from device_agents import trial_folder
    return _print({"stopped": trial_folder.stop(trial_folder.TrialFolder(arguments.home, arguments.trial))})


def _collect(arguments: Any) -> int:
    from device_agents import store, trial_folder
    store.send_journal(trial_folder.TrialFolder(arguments.home, arguments.trial), sys.stdout.buffer)
    return 0


def _missing(arguments: Any) -> int:
    from device_agents import store, trial_folder
    digests = _json_of_stdin("a JSON list of sha256")
    home = trial_folder.prepare(arguments.home)
    return _print(store.missing(os.path.join(home, "store"), digests, arguments.verify))


def _clean(arguments: Any) -> int:
    from device_agents import store, trial_folder
    return _print(store.clean([trial_folder.TrialFolder(arguments.home, name) for name in arguments.trial]))


def _gc(arguments: Any) -> int:
    from device_agents import claim, store, trial_folder
    home = trial_folder.prepare(arguments.home)
    with claim.device_lock(home, "gc"):
        store.remove_old_code(home)
        return _print(store.collect_gc(os.path.join(home, "store"), arguments.max_age_days, arguments.max_mb))


def _list(arguments: Any) -> int:
    from device_agents import trial_folder
    return _print(trial_folder.trials(arguments.home))


def _probe(arguments: Any) -> int:
    from device_agents import probe
    if not arguments.plugins:
        return _print(probe.facts(arguments.home, arguments.root))
    from device_agents import trial_folder
    plugins = _json_of_stdin("a JSON object of plug-ins")
    with trial_folder.staged_plugins(trial_folder.prepare(arguments.home), plugins) as plugin_dirs:
        return _print(probe.facts(arguments.home, arguments.root, plugin_dirs))


def _profile(arguments: Any) -> int:
    from device_agents import profiler
    text = _read_text(arguments.order)
    return _print(profiler.profile(arguments.home, text))


def _json_of_stdin(what: str) -> Any:
    try:
        return json.load(sys.stdin)
    except ValueError as error:
        from device_agents.trial_folder import BadOrder
        raise BadOrder("standard input must be %s: %s" % (what, error))


def _read_text(path: Optional[str]) -> str:
    if path is None:
        return sys.stdin.read()
    from device_agents.trial_folder import BadOrder
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise BadOrder("cannot read %s: %s" % (path, error))


def _print(value: Any) -> int:
    sys.stdout.write(json.dumps(value, sort_keys=True) + "\n")
    sys.stdout.flush()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agent.pyz", description="edgefleet's device agent")
    verbs = parser.add_subparsers(metavar="VERB", dest="name")
    verbs.required = True

    def verb(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text, description=text)
        made.add_argument("--home", required=True, help="the agent's folder on this device")
        made.set_defaults(verb=function)
        return made

    made = verb("probe", _probe, "facts about this device, as JSON")
    made.add_argument("--root", default="", help="prefix of /proc and /sys")
    made.add_argument("--plugins", action="store_true", help="name to sha256 of pushed plug-ins, as JSON on stdin")
    verb("profile", _profile, "idle cost of every branch, as JSON").add_argument("--order", help="file; default stdin")
    made = verb("run", _run, "run H/trials/ID.N/trial.json")
    made.add_argument("trial", metavar="ID.N")
    made.add_argument("--detach", action="store_true", help="answer once the device is taken; the trial goes on")
    made.add_argument("--warm-s", type=float, help="with --detach: keep a warm parent for so long without work")
    made.add_argument("--clean", metavar="ID.N", action="append", help="first remove this trial's folder; repeatable")
    verb("serve", _serve, "be the peer that an order on stdin asks for; the port as JSON, then detach")
    made = verb("stop", _stop, "end a running trial (its journal closes with `failed`), or the `serve` for it")
    made.add_argument("trial", metavar="ID.N")
    made = verb("wait", _wait, "block until the trial has ended, then say how")
    made.add_argument("trial", metavar="ID.N")
    made.add_argument("--collect", action="store_true", help="then send the journal, gzip'd, after the JSON line")
    made.add_argument("--timeout-s", type=float, help="give up after so long; the state is then running")
    verb("collect", _collect, "the journal, gzip'd").add_argument("trial", metavar="ID.N")
    made = verb("missing", _missing, "of a JSON list of sha256 on stdin, those that the store lacks")
    made.add_argument("--verify", action="store_true", help="hash again; delete what does not match")
    verb("clean", _clean, "remove trial folders").add_argument("trial", metavar="ID.N", nargs="+")
    made = verb("gc", _gc, "remove what was unused for longest from the store")
    made.add_argument("--max-age-days", type=float)
    made.add_argument("--max-mb", type=float)
    verb("list", _list, "the trials on this device and their states")
    return parser


if __name__ == "__main__":
    sys.exit(main())
