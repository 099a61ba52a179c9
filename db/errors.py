"""The one error that the database raises at people. The controller's error tree includes it."""


class StoreError(Exception):
    """Schema too new, disk full, locked, not a database. Stops the campaign and loses nothing."""

    exit_code = 2
    retries = 0
    blame = "user"
