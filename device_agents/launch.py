"""The verb `run`: check the order, take the device, then run the trial here, detached, or in a fork of the warm parent.

The claim (two flocks) is taken before `run --detach` answers, and travels with the process, so that a `wait` that comes
right after it blocks. A detached trial has no terminal, no session of ours and no descriptor but its own.
"""
import os
import sys
from typing import Optional

from device_agents import claim, trial_folder
from device_agents.claim import Claim
from device_agents.trial_folder import TrialFolder
from device_agents.wire import Order


def run(home: str, name: str, detach: bool, warm_s: Optional[float]) -> int:
    """Exit code. Raises BadOrder or Busy before anything has begun."""
    folder = TrialFolder(trial_folder.prepare(home), name)
    order = folder.read_order()
    trial_folder.check_store(folder.store, order)
    held = claim.take(folder, order)
    if not detach:
        from device_agents import trial_process
        return trial_process.run(folder, order, held)
    if warm_s is not None and warm_s > 0 and "engines/" + order.trial.engine not in order.plugins:
        from device_agents import warm
        if warm.hand_over(folder, order, held):
            return 0
        if daemonise(os.path.join(folder.home, "warm.log")):
            return 0
        warm.stay(folder, order, held, warm_s)
    if daemonise(folder.stderr):
        return 0
    run_and_exit(folder, order, held)
    return 0


def daemonise(log: str) -> bool:
    """Fork into the background. True in the caller; in the daemon, False, with its streams on /dev/null and `log`."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return True
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)
    redirect(log)
    return False


def redirect(log: str) -> None:
    """Standard input from /dev/null, output and errors to the end of `log`."""
    source = os.open(os.devnull, os.O_RDONLY)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream, file in ((0, source), (1, target), (2, target)):
        os.dup2(file, stream)
    os.close(source)
    os.close(target)


def run_and_exit(folder: TrialFolder, order: Order, held: Claim) -> None:
    """The trial, in a process that is its own and ends with it: no interpreter to tear down while somebody waits."""
    code = 1
    try:
        from device_agents import trial_process
        code = trial_process.run(folder, order, held)
    except BaseException:
        import traceback
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)
