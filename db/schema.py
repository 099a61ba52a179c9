"""The tables, their public names, and nothing else. docs/schema.md explains each column and is checked against this.

Raw rows (trial, attempt, inference, decision, measurement, event, cost) are written once; summary is derived from
them and can be rebuilt. Every number's row carries its provenance. Times in *_ns are the device's CLOCK_BOOTTIME.
"""
from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

from device_agents.wire import PROVENANCES

#: Version of the schema: the newest file in migrations/versions/.
REVISION = "0003"

STATES = ("pending", "running", "done", "failed", "skipped")

metadata = MetaData(naming_convention={
    "ix": "ix_%(table_name)s_%(column_0_N_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s", "ck": "ck_%(table_name)s_%(constraint_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s"})


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} in ({', '.join(repr(value) for value in values)})", name=column)


campaign = Table(
    "campaign", metadata,
    Column("name", Text, primary_key=True),
    Column("spec", JSON, nullable=False),                  # the resolved campaign file
    Column("fleet", JSON, nullable=False),                 # the devices that it names, as resolved
    Column("first_run_s", Float, nullable=False),          # wall clock, Unix seconds
    Column("last_run_s", Float, nullable=False),
)

device = Table(
    "device", metadata,
    Column("name", Text, primary_key=True),
    Column("transport", Text, nullable=False),
    Column("device_class", Text),
    Column("slowdown", Float, nullable=False),             # 1.0, or the factor of an emulated device
    Column("provenance", Text, nullable=False),            # of what this device times
    Column("facts", JSON, nullable=False),                 # last probe: machine, kernel, cores, sensors, runtimes ...
    Column("probed_s", Float),
    _one_of("provenance", PROVENANCES),
)

bundle = Table(
    "bundle", metadata,
    Column("id", Text, primary_key=True),                  # sha256 of the manifest
    Column("task", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("seed", Integer, nullable=False),               # training seed
    Column("classes", Integer, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("training", JSON, nullable=False),
)

branch = Table(
    "branch", metadata,
    Column("bundle", ForeignKey("bundle.id"), primary_key=True),
    Column("id", Text, primary_key=True),
    Column("artifact", Text, nullable=False),
    Column("accuracy", Float, nullable=False),             # on validation data, 0..1
    Column("macs", Integer, nullable=False),
    Column("params", Integer, nullable=False),
    Column("size_b", Integer, nullable=False),
    Column("precision", Text, nullable=False),
    Column("kind", Text, nullable=False),
)

cost = Table(
    "cost", metadata,
    Column("device", ForeignKey("device.name"), primary_key=True),
    Column("bundle", ForeignKey("bundle.id"), primary_key=True),
    Column("branch", Text, primary_key=True),
    Column("engine", Text, primary_key=True),
    Column("runtime", Text, primary_key=True),
    Column("knobs", Text, primary_key=True),               # of the engine, as canonical JSON
    Column("latency_ms", Float, nullable=False),
    Column("latency_p95_ms", Float),
    Column("load_ms", Float),
    Column("peak_rss_mb", Float),
    Column("energy_mj", Float),
    Column("source", Text, nullable=False),                # profile | stated | imported
    Column("provenance", Text, nullable=False),
    Column("measured_s", Float, nullable=False),           # wall clock
    _one_of("provenance", PROVENANCES),
)

trial = Table(
    "trial", metadata,
    Column("id", Text, primary_key=True),
    Column("campaign", ForeignKey("campaign.name"), nullable=False),
    Column("device", ForeignKey("device.name"), nullable=False),
    Column("bundle", ForeignKey("bundle.id"), nullable=False),
    Column("task", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("label", Text, nullable=False),                 # what tables call the method with these settings
    Column("settings", JSON, nullable=False),
    Column("engine", Text, nullable=False),
    Column("runtime", Text, nullable=False),
    Column("residency", Text, nullable=False),
    Column("trace", Text, nullable=False),                 # name
    Column("trace_digest", Text, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("repeat", Integer, nullable=False),
    Column("block", Integer, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("period_ms", Float),                            # as resolved for this device; null before it ran
    Column("deadline_ms", Float),
    Column("processor", Text, nullable=False),             # cpu | gpu | npu
    Column("definition", JSON, nullable=False),            # the whole Trial, as sent
    Column("state", Text, nullable=False),
    Column("error", Text),                                 # class of the last attempt's error
    Column("blame", Text),
    Column("reason", Text),                                # message, or why it was skipped
    Column("provenance", Text, nullable=False),
    _one_of("state", STATES), _one_of("provenance", PROVENANCES),
    Index(None, "campaign", "state"),
)

membership = Table(                                        # a trial may belong to several campaigns; it runs once
    "membership", metadata,
    Column("campaign", ForeignKey("campaign.name"), primary_key=True),
    Column("trial", ForeignKey("trial.id"), primary_key=True),
    Column("label", Text, nullable=False),                 # what this campaign calls the method
    Column("block", Integer, nullable=False),              # its place in this campaign's interleaving
)

preparation = Table(                                       # what depends on a device, made before the trials of a row
    "preparation", metadata,
    Column("campaign", ForeignKey("campaign.name"), primary_key=True),
    Column("label", Text, primary_key=True),
    Column("device", ForeignKey("device.name"), primary_key=True),
    Column("bundle", ForeignKey("bundle.id"), primary_key=True),    # that it started from
    Column("adapter", Text, nullable=False),
    Column("derived", ForeignKey("bundle.id")),            # bundle that its trials run instead; null: the same
    Column("settings", JSON, nullable=False),              # what it chose
    Column("learned", Text),                               # sha256 of the artifact that its trials start from
    Column("budget", JSON, nullable=False),                # passes flops search_s finetune_epochs device_s bytes
    Column("tuning", JSON, nullable=False),                # every configuration that was drawn, with its score
    Column("log", JSON, nullable=False),
)

attempt = Table(
    "attempt", metadata,
    Column("trial", ForeignKey("trial.id"), primary_key=True),
    Column("number", Integer, primary_key=True),           # 1, 2, ...
    Column("state", Text, nullable=False),                 # running | done | failed
    Column("error", Text),
    Column("blame", Text),
    Column("message", Text),
    Column("journal", Text),                               # file under journals/
    Column("journal_sha256", Text),
    Column("boot_id", Text),
    Column("fingerprint", JSON(none_as_null=True)),       # kernel, machine, governor, cores ... at the start
    Column("preflight", Text),                             # yes | no | unknown
    Column("started_s", Float),                            # wall clock of the controller
    Column("ended_s", Float),
    Column("token", Integer),
)

inference = Table(
    "inference", metadata,
    Column("trial", ForeignKey("trial.id"), primary_key=True),
    Column("number", Integer, primary_key=True),           # index in the journal, warm-up included
    Column("phase", Text, nullable=False),                 # warmup | window
    Column("status", Text, nullable=False),                # ok | expired | unserved
    Column("due_ns", Integer),
    Column("t_ns", Integer),
    Column("branch", Text),
    Column("sample", Integer),
    Column("label", Integer),                              # predicted class
    Column("correct", Integer),
    Column("queue_ms", Float),
    Column("decide_us", Float),
    Column("switch_ms", Float),
    Column("latency_ms", Float),
    Column("response_ms", Float),
    Column("met", Integer),
    Column("queue_len", Integer),
    Column("deadline_ms", Float),
    Column("feasible", Integer),                           # branches whose idle cost fits the deadline in force
    Column("provenance", Text, nullable=False),
    sqlite_with_rowid=False,
)

decision = Table(
    "decision", metadata,
    Column("trial", ForeignKey("trial.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),              # of the journal line
    Column("number", Integer, nullable=False),             # index of the inference that it was made for
    Column("t_ns", Integer, nullable=False),
    Column("phase", Text, nullable=False),
    Column("branch", Text, nullable=False),
    Column("knobs", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    Column("candidates", JSON, nullable=False),
    Column("context", JSON, nullable=False),
    Column("decide_us", Float),
    Column("provenance", Text, nullable=False),
)

measurement = Table(
    "measurement", metadata,
    Column("trial", ForeignKey("trial.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("metric", Text, primary_key=True),
    Column("t_ns", Integer, nullable=False),
    Column("phase", Text, nullable=False),
    Column("value", Float),                                # null: not measurable at that moment
    Column("unit", Text, nullable=False),
    Column("source", Text, primary_key=True),              # sensor, energy source, trace or loadgen
    Column("provenance", Text, nullable=False),
    sqlite_with_rowid=False,
)

event = Table(
    "event", metadata,
    Column("trial", ForeignKey("trial.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("seq", Integer, primary_key=True),              # of the line; -1000000 - n: line n is unreadable
    Column("kind", Text, nullable=False),
    Column("t_ns", Integer),
    Column("phase", Text),
    Column("body", JSON, nullable=False),
    Column("provenance", Text, nullable=False),
)

summary = Table(
    "summary", metadata,
    Column("trial", ForeignKey("trial.id"), primary_key=True),
    Column("metric", Text, primary_key=True),
    Column("value", Float),                                # null: a reason says why
    Column("unit", Text, nullable=False),
    Column("n", Integer, nullable=False),                  # samples behind the value
    Column("source", Text, nullable=False),
    Column("reason", Text),
    Column("provenance", Text, nullable=False),
)
