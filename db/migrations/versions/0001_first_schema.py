"""The first schema: every table of results.sqlite."""
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

PROVENANCES = "('measured', 'modelled', 'emulated', 'simulated', 'synthetic')"
STATES = "('pending', 'running', 'done', 'failed', 'skipped')"


def upgrade() -> None:
    _names()
    _trials()
    _rows()


def _names() -> None:
    op.create_table(
        "campaign",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("fleet", sa.JSON(), nullable=False),
        sa.Column("first_run_s", sa.Float(), nullable=False),
        sa.Column("last_run_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_campaign")),
    )
    op.create_table(
        "device",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("transport", sa.Text(), nullable=False),
        sa.Column("device_class", sa.Text()),
        sa.Column("slowdown", sa.Float(), nullable=False),
        sa.Column("provenance", sa.Text(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("probed_s", sa.Float()),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_device")),
        sa.CheckConstraint(f"provenance in {PROVENANCES}", name=op.f("ck_device_provenance")),
    )
    op.create_table(
        "bundle",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("classes", sa.Integer(), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("training", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bundle")),
    )
    op.create_table(
        "branch",
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("artifact", sa.Text(), nullable=False),
        sa.Column("accuracy", sa.Float(), nullable=False),
        sa.Column("macs", sa.Integer(), nullable=False),
        sa.Column("params", sa.Integer(), nullable=False),
        sa.Column("size_b", sa.Integer(), nullable=False),
        sa.Column("precision", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("bundle", "id", name=op.f("pk_branch")),
        sa.ForeignKeyConstraint(["bundle"], ["bundle.id"], name=op.f("fk_branch_bundle")),
    )
    op.create_table(
        "cost",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("runtime", sa.Text(), nullable=False),
        sa.Column("latency_ms", sa.Float(), nullable=False),
        sa.Column("latency_p95_ms", sa.Float()),
        sa.Column("load_ms", sa.Float()),
        sa.Column("peak_rss_mb", sa.Float()),
        sa.Column("energy_mj", sa.Float()),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("provenance", sa.Text(), nullable=False),
        sa.Column("measured_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("device", "bundle", "branch", "engine", "runtime", name=op.f("pk_cost")),
        sa.ForeignKeyConstraint(["bundle"], ["bundle.id"], name=op.f("fk_cost_bundle")),
        sa.ForeignKeyConstraint(["device"], ["device.name"], name=op.f("fk_cost_device")),
        sa.CheckConstraint(f"provenance in {PROVENANCES}", name=op.f("ck_cost_provenance")),
    )


def _trials() -> None:
    op.create_table(
        "trial",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("campaign", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("runtime", sa.Text(), nullable=False),
        sa.Column("residency", sa.Text(), nullable=False),
        sa.Column("trace", sa.Text(), nullable=False),
        sa.Column("trace_digest", sa.Text(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("repeat", sa.Integer(), nullable=False),
        sa.Column("block", sa.Integer(), nullable=False),
        sa.Column("duration_s", sa.Float(), nullable=False),
        sa.Column("period_ms", sa.Float()),
        sa.Column("deadline_ms", sa.Float()),
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("blame", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("provenance", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trial")),
        sa.ForeignKeyConstraint(["bundle"], ["bundle.id"], name=op.f("fk_trial_bundle")),
        sa.ForeignKeyConstraint(["campaign"], ["campaign.name"], name=op.f("fk_trial_campaign")),
        sa.ForeignKeyConstraint(["device"], ["device.name"], name=op.f("fk_trial_device")),
        sa.CheckConstraint(f"provenance in {PROVENANCES}", name=op.f("ck_trial_provenance")),
        sa.CheckConstraint(f"state in {STATES}", name=op.f("ck_trial_state")),
    )
    op.create_index(op.f("ix_trial_campaign_state"), "trial", ["campaign", "state"])
    op.create_table(
        "membership",
        sa.Column("campaign", sa.Text(), nullable=False),
        sa.Column("trial", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("block", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("campaign", "trial", name=op.f("pk_membership")),
        sa.ForeignKeyConstraint(["campaign"], ["campaign.name"], name=op.f("fk_membership_campaign")),
        sa.ForeignKeyConstraint(["trial"], ["trial.id"], name=op.f("fk_membership_trial")),
    )
    op.create_table(
        "attempt",
        sa.Column("trial", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("blame", sa.Text()),
        sa.Column("message", sa.Text()),
        sa.Column("journal", sa.Text()),
        sa.Column("journal_sha256", sa.Text()),
        sa.Column("boot_id", sa.Text()),
        sa.Column("fingerprint", sa.JSON()),
        sa.Column("preflight", sa.Text()),
        sa.Column("started_s", sa.Float()),
        sa.Column("ended_s", sa.Float()),
        sa.Column("token", sa.Integer()),
        sa.PrimaryKeyConstraint("trial", "number", name=op.f("pk_attempt")),
        sa.ForeignKeyConstraint(["trial"], ["trial.id"], name=op.f("fk_attempt_trial")),
    )


def _rows() -> None:
    op.create_table(
        "inference",
        sa.Column("trial", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("due_ns", sa.Integer()),
        sa.Column("t_ns", sa.Integer()),
        sa.Column("branch", sa.Text()),
        sa.Column("sample", sa.Integer()),
        sa.Column("label", sa.Integer()),
        sa.Column("correct", sa.Integer()),
        sa.Column("queue_ms", sa.Float()),
        sa.Column("decide_us", sa.Float()),
        sa.Column("switch_ms", sa.Float()),
        sa.Column("latency_ms", sa.Float()),
        sa.Column("response_ms", sa.Float()),
        sa.Column("met", sa.Integer()),
        sa.Column("queue_len", sa.Integer()),
        sa.Column("deadline_ms", sa.Float()),
        sa.Column("feasible", sa.Integer()),
        sa.Column("provenance", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("trial", "number", name=op.f("pk_inference")),
        sa.ForeignKeyConstraint(["trial"], ["trial.id"], name=op.f("fk_inference_trial")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "decision",
        sa.Column("trial", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("t_ns", sa.Integer(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("knobs", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("candidates", sa.JSON(), nullable=False),
        sa.Column("context", sa.JSON(), nullable=False),
        sa.Column("decide_us", sa.Float()),
        sa.Column("provenance", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("trial", "seq", name=op.f("pk_decision")),
        sa.ForeignKeyConstraint(["trial"], ["trial.id"], name=op.f("fk_decision_trial")),
    )
    op.create_table(
        "measurement",
        sa.Column("trial", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("t_ns", sa.Integer(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("value", sa.Float()),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("provenance", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("trial", "seq", "metric", "source", name=op.f("pk_measurement")),
        sa.ForeignKeyConstraint(["trial"], ["trial.id"], name=op.f("fk_measurement_trial")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "event",
        sa.Column("trial", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("t_ns", sa.Integer()),
        sa.Column("phase", sa.Text()),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("provenance", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("trial", "attempt", "seq", name=op.f("pk_event")),
        sa.ForeignKeyConstraint(["trial"], ["trial.id"], name=op.f("fk_event_trial")),
    )
    op.create_table(
        "summary",
        sa.Column("trial", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Float()),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("provenance", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("trial", "metric", name=op.f("pk_summary")),
        sa.ForeignKeyConstraint(["trial"], ["trial.id"], name=op.f("fk_summary_trial")),
    )
