"""Costs by knobs too: a branch with other `threads` costs something else.

Costs were profiled on the way to a trial, with its knobs: a row that is there gets those of the first trial that used
it, and none where no trial did.
"""
import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

PROVENANCES = "('measured', 'modelled', 'emulated', 'simulated', 'synthetic')"
KEY = ("device", "bundle", "engine", "runtime")
VALUES = "latency_ms, latency_p95_ms, load_ms, peak_rss_mb, energy_mj, source, provenance, measured_s"


def upgrade() -> None:
    op.rename_table("cost", "cost_before")
    op.create_table(
        "cost",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("runtime", sa.Text(), nullable=False),
        sa.Column("knobs", sa.Text(), nullable=False),
        sa.Column("latency_ms", sa.Float(), nullable=False),
        sa.Column("latency_p95_ms", sa.Float()),
        sa.Column("load_ms", sa.Float()),
        sa.Column("peak_rss_mb", sa.Float()),
        sa.Column("energy_mj", sa.Float()),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("provenance", sa.Text(), nullable=False),
        sa.Column("measured_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("device", "bundle", "branch", "engine", "runtime", "knobs", name=op.f("pk_cost")),
        sa.ForeignKeyConstraint(["bundle"], ["bundle.id"], name=op.f("fk_cost_bundle")),
        sa.ForeignKeyConstraint(["device"], ["device.name"], name=op.f("fk_cost_device")),
        sa.CheckConstraint(f"provenance in {PROVENANCES}", name=op.f("ck_cost_provenance")),
    )
    connection = op.get_bind()
    for key in connection.execute(sa.text(f"SELECT DISTINCT {', '.join(KEY)} FROM cost_before")).mappings().all():
        connection.execute(
            sa.text(f"INSERT INTO cost SELECT device, bundle, branch, engine, runtime, :knobs, {VALUES} FROM "
                    f"cost_before WHERE {' AND '.join(f'{name} = :{name}' for name in KEY)}"),
            {**key, "knobs": _knobs(connection, dict(key))})
    op.drop_table("cost_before")


def _knobs(connection: sa.Connection, key: dict[str, str]) -> str:
    """Of the first trial that ran with these costs; of a trial of a wrapping engine, the engine below it counts."""
    found = connection.execute(sa.text(
        "SELECT json_extract(trial.definition, '$.knobs') FROM trial JOIN attempt ON attempt.trial = trial.id "
        "WHERE trial.device = :device AND trial.bundle = :bundle AND (trial.engine = :engine AND "
        "trial.runtime = :runtime OR trial.runtime LIKE '% over ' || :engine || ': ' || :runtime) "
        "ORDER BY attempt.started_s LIMIT 1"), key).scalar()
    return json.dumps(json.loads(found or "{}"), sort_keys=True, separators=(",", ":"))
