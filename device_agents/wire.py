"""Every type that crosses the cable between controller and device. Read this file first.

Standard library only, Python >= 3.6, because it runs at both ends. A trial goes out as one JSON file
(`order_to_json`) and comes back as one journal: JSON lines with a sequence number, the last of which is `done`
or `failed`; a journal that ends otherwise belongs to an agent that crashed. Everywhere `None` means "cannot be
measured here", never 0. Units are in the names. This file refuses behaviour: no I/O, no clock, no policy.
"""
import hashlib
import json
from typing import Any, Dict, NamedTuple, Optional, Tuple, Type, TypeVar

T = TypeVar("T")

PROTOCOL = 1

#: In a runtime, between a wrapping engine and the one it runs: "remote 1 over onnxruntime_cpu: onnxruntime 1.31.1".
OVER = " over "
#: In Trial.link, before the name of an emulated peer.
SLOWDOWN = "slowdown_x."

#: How a number came to be. Two provenances are never averaged.
PROVENANCES = ("measured", "modelled", "emulated", "simulated", "synthetic")

#: Unit of a metric, from the suffix of its name. The longest suffix that fits wins.
UNITS = (
    ("_pct", "%"), ("_mb", "MiB"), ("_mhz", "MHz"), ("_ms", "ms"), ("_us", "us"), ("_ns", "ns"), ("_s", "s"),
    ("_c", "degC"), ("_w", "W"), ("_mj", "mJ"), ("_j", "J"), ("_mbps", "Mbit/s"), ("_dbm", "dBm"), ("_hz", "Hz"),
    ("_mv", "mV"), ("_ma", "mA"), ("_len", "count"), ("_count", "count"),
)


class Branch(NamedTuple):
    """One deployable network. `artifact` is the sha256 of its model file; `accuracy` is validation accuracy, 0..1."""
    id: str
    artifact: str
    accuracy: float
    macs: int
    params: int
    size_b: int
    precision: str = "float32"
    kind: str = ""                              # what makes it differ: full | exit | depth | width | operator | ...


class BranchBundle(NamedTuple):
    """What is pushed: branches of one network and the samples to run them on.

    `id` is the sha256 of the manifest's bytes; the manifest names every other file by its sha256, so the id pins all.
    `shape` is one sample's shape without the batch axis; `samples` is the sha256 of a raw little-endian file of
    `count` samples of `dtype`; `labels` the sha256 of a JSON list of `count` class numbers. `files` are what several
    branches need, name -> sha256; where there are none, the manifest does not mention them.
    """
    id: str
    task: str
    model: str
    seed: int
    classes: int
    shape: Tuple[int, ...]
    dtype: str
    samples: str
    labels: str
    count: int                                  # type: ignore[assignment]  # of samples; hides tuple.count, unused
    branches: Tuple[Branch, ...]
    training: Dict[str, Any] = {}               # noqa: RUF012  how it was made; provenance for people
    files: Dict[str, str] = {}                  # noqa: RUF012


class Cost(NamedTuple):
    """What one branch costs on one device, idle. Medians unless named otherwise."""
    branch: str
    engine: str
    latency_ms: float
    latency_p95_ms: Optional[float]
    load_ms: Optional[float]
    peak_rss_mb: Optional[float]
    energy_mj: Optional[float]
    source: str                                 # profile | stated | imported
    provenance: str = "measured"


class LoadTrace(NamedTuple):
    """Load over time, piecewise constant from each row's `t_s` on. Known columns, any of which may be absent:

    t_s · cpu_pct (of all cores, 0..100) · mem_mb (balloon) · traffic_mbps (sent to the trial's first peer besides its
    offloading) · rate_x (factor on the arrival rate) and the scripted battery_pct · deadline_x (factor on the trial's
    deadline) · deadline_ms · accuracy_floor (0..1), and, of the shaped link to the trial's peers, net_mbps (rate) ·
    net_rtt_ms (delay there and back) · net_loss_pct (of frames).
    Scripted columns reach the context with provenance `emulated`; a scripted battery is not charging.
    """
    name: str
    columns: Tuple[str, ...]
    rows: Tuple[Tuple[Optional[float], ...], ...]

    def digest(self) -> str:
        """sha256 of the content; the name is not part of it."""
        return sha256_of([list(self.columns), [list(row) for row in self.rows]])

    def at(self, t_s: float, column: str) -> Optional[float]:
        """Value of `column` at `t_s` seconds into the window; None when absent or before the first row."""
        if column not in self.columns:
            return None
        index, value = self.columns.index(column), None
        for row in self.rows:
            if row[0] is None or row[0] > t_s:
                break
            value = row[index]
        return value


class Trial(NamedTuple):
    """What defines one run, and its names. The controller hashes the defining part into `id`."""
    id: str
    campaign: str                               # a name, not part of the id
    device: str
    peers: Tuple[str, ...]
    task: str
    model: str
    bundle: str                                 # BranchBundle.id
    method: str                                 # file name in adapters/
    label: str                                  # what tables call the method with these settings; not part of the id
    settings: Dict[str, Any]                    # policy of the bundle for the method, then the campaign's overrides
    learned: Optional[str]                      # sha256 of a learned input (Q-table, ...)
    engine: str                                 # file name in engines/
    runtime: str                                # e.g. "onnxruntime 1.31.1"
    knobs: Dict[str, Any]                       # engine knobs that the trial starts with, e.g. {"threads": 1}
    residency: str                              # all | one | cache:K
    trace: LoadTrace
    arrival: Dict[str, Any]                     # {"kind": closed|periodic|poisson|trace, "rate": {utilisation|hz: x}}
    deadline: Dict[str, Any]                    # {"x_full": x} or {"ms": x}
    late: str                                   # drop | serve: an arrival whose deadline passed while it waited
    duration_s: float
    warmup_s: float
    sample_hz: float                            # sampler rate
    accuracy_floor: Optional[float]
    slowdown: float                             # 1.0, or the stated factor of an emulated device
    seed: int
    repeat: int
    block: int                                  # place in the interleaving; not part of the id
    link: Dict[str, float] = {}                 # noqa: RUF012  shapes it to the peers: rate_mbps delay_ms jitter_ms
    #                                             loss_pct; and SLOWDOWN + a peer's name, the factor of an emulated peer
    method_sha256: str = ""                     # of the text of adapters/<method>.py, ours or the user's


class Order(NamedTuple):
    """trial.json: the trial, and what the controller knows today that does not define it."""
    trial: Trial
    attempt: int
    token: int                                  # fencing token: the device refuses a lower one than it has seen
    period_ms: Optional[float]                  # resolved from arrival; None for a closed loop
    deadline_ms: Optional[float]                # resolved from deadline
    costs: Tuple[Cost, ...]                     # of this very device
    preflight: Dict[str, Any]                   # limits, e.g. {"above_idle_c": 5, "idle_c": 41.0, "min_battery_pct": 9}
    provenance: str                             # of everything that this device times: measured | emulated | simulated
    power_model: Optional[Dict[str, Any]]       # {"idle_w", "busy_w", "source"} for the modelled energy source
    plugins: Dict[str, str]                     # "adapters/mine" -> sha256 of the file in the device's store
    extra: Dict[str, Any] = {}                  # noqa: RUF012  replay costs of simulated devices, peers' addresses, ...


class Serving(NamedTuple):
    """What `agent serve` reads on standard input: whom a device serves as a peer, for how long, and the key."""
    trial: str
    attempt: int
    token: int                                  # fencing token of this device
    bundle: str
    engine: str                                 # that runs here
    knobs: Dict[str, Any]                       # of that engine
    slowdown: float                             # of this device
    host: str                                   # address to listen on
    key: str                                    # 64 hex digits, of this one attempt: who has it is answered
    due_s: float                                # seconds until it ends by itself
    certificate: str                            # PEM, of this one attempt: what the other device knows this one by
    private_key: str                            # PEM


class AdapterView(NamedTuple):
    """All that an adapter may know of the trial: no trace, seed, duration, label or future."""
    deadline_ms: Optional[float]
    accuracy_floor: Optional[float]
    period_ms: Optional[float]
    branches: Tuple[Branch, ...]
    costs: Dict[str, Cost]                      # by branch id
    settings: Dict[str, Any]
    rng: Any                                    # random.Random of the adapter's own dimension


class Context(NamedTuple):
    """What the device senses now. co_* is everybody but the agent: a method must not react to itself."""
    t_ns: int
    co_cpu_pct: Optional[float] = None          # of all cores, 0..100
    co_mem_pct: Optional[float] = None
    own_cpu_pct: Optional[float] = None
    mem_free_mb: Optional[float] = None
    temp_c: Optional[float] = None
    freq_mhz: Optional[float] = None
    throttled: Optional[bool] = None
    gpu_pct: Optional[float] = None
    battery_pct: Optional[float] = None
    charging: Optional[bool] = None
    power_w: Optional[float] = None
    net_mbps: Optional[float] = None
    rtt_ms: Optional[float] = None
    rssi_dbm: Optional[float] = None
    queue_len: int = 0
    latency_ms: Optional[float] = None          # of the last inference
    deadline_ms: Optional[float] = None         # in force now
    accuracy_floor: Optional[float] = None      # in force now
    queue_ms: Optional[float] = None            # that the arrival at hand has waited


class Decision(NamedTuple):
    """Which branch next, and why. `candidates` = ((branch id, predicted latency_ms), ...) that were considered."""
    branch: str
    knobs: Dict[str, Any] = {}                  # noqa: RUF012
    reason: str = ""
    candidates: Tuple[Tuple[str, Optional[float]], ...] = ()


class Outcome(NamedTuple):
    """What came of a decision. Whether the prediction was right is journalled, never shown to an adapter."""
    decision: Decision
    latency_ms: float
    energy_mj: Optional[float]
    met_deadline: Optional[bool]


class Measurement(NamedTuple):
    t_ns: int
    metric: str
    value: Optional[float]
    unit: str
    source: str
    provenance: str


# --- the journal ------------------------------------------------------------------------------------------------
# Every line: {"seq": n, "kind": k, "t_ns": CLOCK_BOOTTIME ns, "phase": p, ...}. seq starts at 0 and has no holes.
# phase: setup | warmup | window | cool. Kinds and their further fields:
#   start      protocol trial attempt token agent wall_ns boot_id runtime provenance sensors{metric: source}
#              energy{source: {scope, provenance}} fingerprint{kernel machine governor cores python ...}
#   preflight  validity(yes|no|unknown) findings[{check value limit ok}]
#   load       branch load_ms parts{name: value}                a branch was loaded. parts: of an engine that tells
#              them: derive_ms session_ms cold (true: for the first time in this process) where the device makes the
#              weights
#   unload     branch
#   decision   index branch knobs reason candidates[[branch, ms]] decide_us context{only what is not None}
#              written when branch, knobs or reason change; every inference carries its own decide_us
#   inference  index status(ok|expired|unserved) due_ns branch sample label correct queue_ms decide_us switch_ms
#              latency_ms response_ms met queue_len deadline_ms feasible
#              t_ns = start of the inference; latency_ms = inference alone; response_ms = end - due (all waiting
#              included); met = response within the deadline in force (None without one); feasible = number of
#              branches whose idle cost fits that deadline; expired: dropped unserved because it was late;
#              unserved: still queued when the window closed
#   sample     values{metric: value} cost_us                    one tick of the sampler: what was read in it
#              an energy source's metric is "<source>.<metric>", e.g. "rapl.energy_j"; its totals are exactly power_w
#              and energy_j, parts have a prefix; emulated[metric] names those that the trace scripts, and modelled[..]
#              (any of PROVENANCES) an energy source's that have another provenance than the source
#   remote     peer branch sample status(ok|fallback) trip_ms served_ms      an inference that was asked of a peer, just
#              before its own line; trip_ms = there and back without served_ms, which the peer took; fallback: no answer
#              in time, so it was served here
#   loadgen    asked_cpu_pct achieved_cpu_pct asked_mem_mb achieved_mem_mb span_s    since the last such line;
#              of a trace with traffic_mbps also asked_traffic_mbps achieved_traffic_mbps (acknowledged by the peer)
#   learned    sha256 base64                                    what the adapter learned, before the last line
#   note       text                                             for people, e.g. "sampler late 312 ms"
#   done       inferences decisions switches sampler_cpu_pct peak_rss_mb learned(sha256 or null)
#   failed     error(unsupported|not_ready|user|agent) message traceback
LAST_KINDS = ("done", "failed")


def unit_of(metric: str) -> str:
    """Unit of a metric name, '' when its suffix is none of UNITS (flags, for example)."""
    best = ""
    unit = ""
    for suffix, name in UNITS:
        if metric.endswith(suffix) and len(suffix) > len(best):
            best, unit = suffix, name
    return unit


def canonical_json(value: Any) -> str:
    """The one text form that is hashed: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256_of(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def costed_as(engine: str, runtime: str) -> Tuple[str, str]:
    """(engine, runtime) whose costs hold for a trial of these: of a wrapping engine those of the one that runs here."""
    head, over, rest = runtime.partition(OVER)
    inner, colon, inner_runtime = rest.partition(": ")
    return (inner, inner_runtime) if over and colon and head.startswith(engine + " ") else (engine, runtime)


def link_is_shaped(trial: Trial) -> bool:
    """Whether the link to the trial's peers is made worse than it is, by Trial.link or by its trace."""
    scripted = {"net_mbps", "net_rtt_ms", "net_loss_pct"} & set(trial.trace.columns)
    return bool(trial.peers) and bool(scripted or any(not key.startswith(SLOWDOWN) for key in trial.link))


def provenance_of(trial: Trial, device: str) -> str:
    """Of what a trial times on a device of provenance `device`: a shaped link or a slowed peer makes it emulated."""
    emulated = bool(trial.peers) and (bool(trial.link) or link_is_shaped(trial))
    return "emulated" if device == "measured" and emulated else device


def bundle_to_json(bundle: BranchBundle) -> Dict[str, Any]:
    """The manifest as a dict, without the id, which is the hash of its canonical text."""
    value = dict(bundle._asdict())
    del value["id"]
    if not bundle.files:
        del value["files"]
    value["format"] = PROTOCOL
    value["shape"] = list(bundle.shape)
    value["branches"] = [dict(branch._asdict()) for branch in bundle.branches]
    return value


def bundle_from_json(text: str) -> BranchBundle:
    """Raises ValueError (also json's, and for missing or unknown fields)."""
    value = json.loads(text)
    if not isinstance(value, dict) or value.pop("format", None) != PROTOCOL:
        raise ValueError("not a bundle manifest of format %d" % PROTOCOL)
    value["id"] = hashlib.sha256(text.encode("utf-8")).hexdigest()
    value["shape"] = tuple(value.get("shape", ()))
    value["branches"] = tuple(_make(Branch, branch) for branch in value.get("branches", ()))
    return _make(BranchBundle, value)


def trace_to_json(trace: LoadTrace) -> Dict[str, Any]:
    return {"name": trace.name, "columns": list(trace.columns), "rows": [list(row) for row in trace.rows]}


def trace_from_json(value: Dict[str, Any]) -> LoadTrace:
    return LoadTrace(value["name"], tuple(value["columns"]), tuple(tuple(row) for row in value["rows"]))


def trial_to_json(trial: Trial) -> Dict[str, Any]:
    value = dict(trial._asdict())
    value["peers"] = list(trial.peers)
    value["trace"] = trace_to_json(trial.trace)
    return value


def trial_from_json(value: Dict[str, Any]) -> Trial:
    value = dict(value)
    value["peers"] = tuple(value.get("peers", ()))
    value["trace"] = trace_from_json(value["trace"])
    return _make(Trial, value)


def order_to_json(order: Order) -> Dict[str, Any]:
    value = dict(order._asdict())
    value["trial"] = trial_to_json(order.trial)
    value["costs"] = [dict(cost._asdict()) for cost in order.costs]
    value["protocol"] = PROTOCOL
    return value


def order_from_json(value: Dict[str, Any]) -> Order:
    """Raises ValueError for another protocol or for missing or unknown fields."""
    value = dict(value)
    if value.pop("protocol", None) != PROTOCOL:
        raise ValueError("this agent speaks protocol %d only" % PROTOCOL)
    value["trial"] = trial_from_json(value["trial"])
    value["costs"] = tuple(_make(Cost, cost) for cost in value["costs"])
    return _make(Order, value)


def serving_from_json(value: Dict[str, Any]) -> Serving:
    """Raises ValueError for missing or unknown fields, and for values that cannot be."""
    serving = _make(Serving, value)
    texts = (serving.trial, serving.bundle, serving.engine, serving.host, serving.key, serving.certificate,
             serving.private_key)
    if not all(isinstance(text, str) for text in texts) or len(serving.key) != 64:
        raise ValueError("trial, bundle, engine, host, certificate and private_key must be texts, key 64 hex digits")
    bytes.fromhex(serving.key)
    for name in ("attempt", "token", "slowdown", "due_s"):
        number = getattr(serving, name)
        most = 1e15 if name == "token" else 1e9             # tokens are milliseconds since 1970
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < most:
            raise ValueError("%s must be a number from 0 on and below %g, is %r" % (name, most, number))
    if not isinstance(serving.knobs, dict) or serving.slowdown < 1:
        raise ValueError("knobs must be a table, and slowdown at least 1")
    return serving


def _make(cls: Type[T], value: Dict[str, Any]) -> T:
    try:
        return cls(**value)
    except TypeError as error:
        raise ValueError("%s: %s" % (cls.__name__, error))
