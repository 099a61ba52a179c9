"""Alembic's entry point, run by db.connection with an open transaction; there is no alembic.ini and no offline mode."""
from alembic import context

from db.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True,
                  transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
