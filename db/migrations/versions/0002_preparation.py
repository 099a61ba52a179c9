"""Table preparation: what was tuned, derived and learned for a row of a campaign on one device, and what that cost."""
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "preparation",
        sa.Column("campaign", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.Column("adapter", sa.Text(), nullable=False),
        sa.Column("derived", sa.Text()),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("learned", sa.Text()),
        sa.Column("budget", sa.JSON(), nullable=False),
        sa.Column("tuning", sa.JSON(), nullable=False),
        sa.Column("log", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("campaign", "label", "device", "bundle", name=op.f("pk_preparation")),
        sa.ForeignKeyConstraint(["campaign"], ["campaign.name"], name=op.f("fk_preparation_campaign")),
        sa.ForeignKeyConstraint(["device"], ["device.name"], name=op.f("fk_preparation_device")),
        sa.ForeignKeyConstraint(["bundle"], ["bundle.id"], name=op.f("fk_preparation_bundle")),
        sa.ForeignKeyConstraint(["derived"], ["bundle.id"], name=op.f("fk_preparation_derived")),
    )
