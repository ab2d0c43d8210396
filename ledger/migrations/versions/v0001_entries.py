"""The table of entries."""

import sqlalchemy as sql
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "entries",
        sql.Column("dataset", sql.String(200), primary_key=True),
        sql.Column("number", sql.Integer, primary_key=True),
        sql.Column("kind", sql.String(20), nullable=False),
        sql.Column("body", sql.Text, nullable=False),
        sql.Column("before", sql.String(64), nullable=False),
        sql.Column("digest", sql.String(64), nullable=False),
    )
