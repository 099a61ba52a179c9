"""AutoScale, online half: Kim, Wu, "AutoScale", arXiv 2005.02544, 2020 (MICRO 2020).

Published: for each inference, reinforcement learning picks the most energy-efficient target (CPU, co-processor, a
connected device, the cloud) from what the network is and how the device fares now (signal strength, co-running load),
under latency and accuracy requirements. Its tables could not be read. So this is our re-implementation: state bins,
reward and constants are those that the same two authors state for AutoFL (MICRO 2021, its notes), or, marked R below,
what is remembered of AutoScale and could not be checked. None of it is printed as the paper's.

State: co-running CPU and memory load, each none, < 25, < 75, <= 100 %; the link, regular above 40 Mbit/s (AutoFL) and
-80 dBm (R). Reward (R): accuracy - 100 below the accuracy floor; else -energy + beta * accuracy, and + alpha * latency
when the deadline was met. Update: Q += rate * (reward + discount * max Q' - Q). Epsilon-greedy. Weights, epsilon: R.

Deviations, all ours:
1. Actions are (branch, threads, target): threads for clock steps, a float32 or 8-bit branch for precision, peers for
   the connected device. No GPU or DSP. actions = "exact": the full network only; "branches": every branch.
2. No features of the network in the state: a trial has one network. A table is bound to its actions.
3. "none" means below 5 %, since no sensor reads 0. The link's bins are weak, regular and unknown, and a round trip of
   more than half the deadline is a bin of its own, since a wired link has no signal strength.
4. Energy is modelled, from powers that are assumed (settings): busy cores for as long as it took; of a remote inference
   sending, receiving, and idling in between. Units, which are not stated: mJ, ms, and accuracy in %.
5. An action that was never tried in a state counts as much as the best that was: each is tried once before the choice
   settles, and its first reward is its value. AutoFL begins with random values.
6. As remembered, a missed deadline costs alpha * latency, 2 to 3 % of an inference's energy in our units, so it
   would be learned that missing saves. Published is the purpose: the most efficient target *subject to* latency and
   accuracy. So a miss gets -energy - bound, without credit for accuracy, and an action below the floor accuracy - 100 -
   bound, where bound is the most energy that an inference within the longest deadline so far can cost: with any alpha
   and beta both are worse than whatever keeps the constraints. Without a deadline the bound is 0.
7. Frozen (learn = false) it takes the best of what was tried in the state, or, in a state that was never met, of the
   nearest one. Without a table it stays at the first action.
It refuses (UserError) unknown settings and a table that is damaged or was learned for other actions.
"""
import json
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from device_agents.seams import Adapter, UserError
from device_agents.settings import check_within, with_defaults
from device_agents.wire import AdapterView, Branch, Context, Decision, Outcome

_DEFAULTS: Dict[str, Any] = {
    "actions": None,                            # exact | branches; None: exact
    "exact": None,                              # branches of the exact form; None: the full one, and its 8-bit form
    "threads": None,                            # choices of a local inference; None: [1, 2]
    "peers": None,                              # targets besides "local"; from the campaign
    "sample_b": None,                           # bytes that a remote inference sends; None: 4096
    "learn": None,                              # None: true
    "epsilon": 0.1, "rate": 0.9, "discount": 0.1, "alpha": 0.1, "beta": 0.1,
    "idle_w": 2.0, "core_w": 1.5, "tx_w": 3.5, "rx_w": 3.0,
}
_UNLESS_STATED: Dict[str, Any] = {"actions": "exact", "threads": [1, 2], "peers": [], "sample_b": 4096, "learn": True}
_MOST_ACTIONS = 256                             # in 144 states at the most: a table stays below 1 MiB
_FORMAT = 1
_NONE_PCT, _SMALL_PCT, _MEDIUM_PCT = 5.0, 25.0, 75.0
_REGULAR_MBPS, _WEAK_DBM, _LONG_SHARE = 40.0, -80.0, 0.5
_ANSWER_B = 64

State = Tuple[int, int, int, int]               # bins of co-running CPU, of memory, link, round trip
Values = Dict[int, List[float]]                 # action -> [Q, times tried]


class Action(NamedTuple):
    branch: str
    threads: int
    target: str                                 # "local" or a peer


class Autoscale(Adapter):
    @staticmethod
    def checked(settings: Dict[str, Any]) -> Dict[str, Any]:
        settings = with_defaults("autoscale", settings, _DEFAULTS)
        for name, value in _UNLESS_STATED.items():
            if settings[name] is None:
                settings[name] = value
        check_within("autoscale", settings, (
            ("epsilon", 0.0, 1.0), ("rate", 0.0, 1.0), ("discount", 0.0, 0.999), ("alpha", 0.0, 1e6),
            ("beta", 0.0, 1e6), ("sample_b", 0.0, 1e9), ("idle_w", 0.0, 1e4), ("core_w", 0.0, 1e4),
            ("tx_w", 0.0, 1e4), ("rx_w", 0.0, 1e4)))
        if settings["actions"] not in ("exact", "branches"):
            raise UserError("autoscale: actions must be exact or branches, is %r" % (settings["actions"],))
        if not isinstance(settings["learn"], bool):
            raise UserError("autoscale: learn must be true or false, is %r" % (settings["learn"],))
        threads = settings["threads"]
        if not isinstance(threads, list) or not threads \
                or not all(type(one) is int and 1 <= one <= 64 for one in threads):
            raise UserError("autoscale: threads must be whole numbers from 1 to 64, is %r" % (threads,))
        return settings

    def start(self, view: AdapterView, learned: Optional[bytes]) -> Decision:
        self._settings = self.checked(view.settings)
        self._rng = view.rng
        self._branches = {branch.id: branch for branch in view.branches}
        self._actions = _actions(view.branches, self._settings)
        self._names = ["%s|%d|%s" % action for action in self._actions]
        self._table: Dict[State, Values] = {} if learned is None else _loaded(learned, self._names)
        self._near: Dict[State, Values] = {}    # frozen: what stands in for a state that was never met
        self._threads: Dict[str, int] = {}      # that a branch was loaded with last, where not with the first choice
        self._before: Optional[Tuple[State, int]] = None
        self._most_w = max(self._settings["idle_w"] + self._settings["core_w"] * max(self._settings["threads"]),
                           self._settings["tx_w"], self._settings["rx_w"])
        self._longest_ms = view.deadline_ms or 0.0          # deadline so far
        return self._decided(0, "begins here")

    def decide(self, context: Context, last: Optional[Outcome]) -> Decision:
        state = _state(context)
        if not self._settings["learn"]:
            number, reason = self._best_known(state)
            return self._decided(number, reason)
        self._longest_ms = max(self._longest_ms, context.deadline_ms or 0.0)
        if last is not None and self._before is not None:
            self._learn(*self._before, state, self._reward(context, last))
        number, reason = self._chosen(self._table.setdefault(state, {}))
        self._before = state, number
        return self._decided(number, reason)

    def learned(self) -> Optional[bytes]:
        """The table as canonical JSON; None when it was frozen: nothing was learned."""
        if not self._settings["learn"]:
            return None
        states = {".".join(map(str, state)): {str(number): [round(value, 6), int(tried)]
                                              for number, (value, tried) in values.items()}
                  for state, values in self._table.items() if values}
        return json.dumps({"format": _FORMAT, "actions": self._names, "states": states}, sort_keys=True,
                          separators=(",", ":")).encode("ascii")

    def _chosen(self, values: Values) -> Tuple[int, str]:
        if self._rng.random() < self._settings["epsilon"]:
            return self._rng.randrange(len(self._actions)), "explores"
        if len(values) < len(self._actions):    # an untried one counts as much as the best
            untried = [number for number in range(len(self._actions)) if number not in values]
            return untried[0] if not values else self._rng.choice(untried), "tries what it has not tried here"
        return _best(values), "best of this state"

    def _best_known(self, state: State) -> Tuple[int, str]:
        if state in self._table:
            return _best(self._table[state]), "best of this state"
        if not self._table:
            return 0, "nothing was learned"
        if state not in self._near:
            nearest = min(self._table, key=lambda known: (sum(abs(one - other) for one, other in zip(known, state)),
                                                          known))
            self._near[state] = self._table[nearest]
        return _best(self._near[state]), "best of the nearest state that was met"

    def _learn(self, state: State, number: int, after: State, reward: float) -> None:
        ahead = self._table.get(after)
        future = max(value for value, _ in ahead.values()) if ahead else 0.0
        values = self._table.setdefault(state, {})
        value, tried = values.get(number, [0.0, 0])
        rate = self._settings["rate"] if tried else 1.0         # the first value has nothing to be mixed with
        values[number] = [value + rate * (reward + self._settings["discount"] * future - value), tried + 1]

    def _reward(self, context: Context, last: Outcome) -> float:
        """Of the last decision, under what is sensed and asked for now. See the file's text, 6."""
        assert self._before is not None
        action, settings = self._actions[self._before[1]], self._settings
        accuracy_pct, bound_mj = self._branches[action.branch].accuracy * 100.0, self._most_w * self._longest_ms
        if context.accuracy_floor is not None and accuracy_pct < context.accuracy_floor * 100.0:
            return float(accuracy_pct - 100.0 - bound_mj)
        energy_mj = self._energy_mj(action, context, last.latency_ms)
        if last.met_deadline is False:
            return float(-energy_mj - bound_mj)
        return float(settings["beta"] * accuracy_pct - energy_mj + settings["alpha"] * last.latency_ms)

    def _energy_mj(self, action: Action, context: Context, latency_ms: float) -> float:
        """Modelled: W x ms. What is on its way longer than the whole took has been on its way for the whole."""
        settings = self._settings
        if action.target == "local":
            return float((settings["idle_w"] + settings["core_w"] * action.threads) * latency_ms)
        sending_ms = receiving_ms = 0.0
        if context.net_mbps:
            sending_ms = min(latency_ms, settings["sample_b"] * 8e-3 / context.net_mbps)
            receiving_ms = min(latency_ms - sending_ms, _ANSWER_B * 8e-3 / context.net_mbps)
        return float(settings["tx_w"] * sending_ms + settings["rx_w"] * receiving_ms
                     + settings["idle_w"] * (latency_ms - sending_ms - receiving_ms))

    def _decided(self, number: int, reason: str) -> Decision:
        """A remote action keeps the threads that its branch is loaded with: a load here would be of no use to it."""
        action = self._actions[number]
        if action.target == "local":
            self._threads[action.branch] = action.threads
        knobs: Dict[str, Any] = {"threads": self._threads.get(action.branch, action.threads)}
        if self._settings["peers"]:
            knobs["target"] = action.target
        return Decision(action.branch, knobs, "%s: %s" % (reason, action.target), ((action.branch, None),))


def _best(values: Values) -> int:
    """The action of the highest value; of equals the first."""
    return max(values, key=lambda number: (values[number][0], -number))


def _state(context: Context) -> State:
    link = 0
    if context.net_mbps is not None:
        weak = context.net_mbps <= _REGULAR_MBPS or (context.rssi_dbm is not None and context.rssi_dbm <= _WEAK_DBM)
        link = 1 if weak else 2
    trip = 0
    if context.rtt_ms is not None:
        long = context.deadline_ms is not None and context.rtt_ms > _LONG_SHARE * context.deadline_ms
        trip = 1 if long else 2
    return _load(context.co_cpu_pct), _load(context.co_mem_pct), link, trip


def _load(pct: Optional[float]) -> int:
    if pct is None or pct < _NONE_PCT:
        return 0
    return 1 if pct < _SMALL_PCT else 2 if pct < _MEDIUM_PCT else 3


def _actions(branches: Tuple[Branch, ...], settings: Dict[str, Any]) -> List[Action]:
    """Local ones first: every branch with every number of threads; then every branch at every peer."""
    names = settings["exact"] if settings["actions"] == "exact" else [branch.id for branch in branches]
    if names is None:
        full = max(branches, key=lambda branch: (branch.precision == "float32", branch.macs))
        names = [full.id] + [branch.id for branch in branches if branch.precision == "int8"][:1]
    known = {branch.id for branch in branches}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UserError("autoscale: exact names %r; the bundle has: %s" % ((unknown or [None])[0],
                                                                           ", ".join(sorted(known))))
    first = settings["threads"][0]
    made = [Action(name, threads, "local") for name in names for threads in settings["threads"]]
    made += [Action(name, first, peer) for peer in settings["peers"] for name in names]
    if len(made) > _MOST_ACTIONS:
        raise UserError("autoscale: %d actions, at most %d; fewer branches, threads or peers" % (len(made),
                                                                                                _MOST_ACTIONS))
    return made


def _loaded(data: bytes, names: List[str]) -> Dict[State, Values]:
    """A table that learned() gave, for the same actions. Raises UserError."""
    try:
        value = json.loads(data.decode("ascii"))
        if value["format"] != _FORMAT:
            raise ValueError("it is of format %r" % value["format"])
        theirs = value["actions"]
        table = {_key(state): {_within(number, theirs): [float(one), int(tried)]
                               for number, (one, tried) in values.items()} for state, values in value["states"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError("autoscale: the learned input is no table of ours: %s: %s" % (type(error).__name__, error))
    if theirs != names:
        odd = [name for name in theirs if name not in names] + [name for name in names if name not in theirs]
        raise UserError("autoscale: the learned table is for other actions (%d, here %d; first that differs: %s); "
                        "learn one with these branches, threads and peers" % (len(theirs), len(names),
                                                                              (odd or names)[0]))
    return {state: values for state, values in table.items() if values}


def _key(text: str) -> State:
    cpu, memory, link, trip = (int(part) for part in text.split("."))
    return cpu, memory, link, trip


def _within(number: str, names: List[str]) -> int:
    if not 0 <= int(number) < len(names):
        raise ValueError("action %s of %d" % (number, len(names)))
    return int(number)
