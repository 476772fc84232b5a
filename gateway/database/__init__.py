"""One small way to two databases: SQLite for one machine, PostgreSQL for many. Rooms write portable SQL on it.

SQL uses `?` placeholders and what both dialects share (`INSERT ... ON CONFLICT`, `RETURNING`, BIGINT, TEXT, DOUBLE
PRECISION). All calls block: they belong into threads, never onto the event loop. Knows no table.
"""

from gateway.database.port import Cursor, Database, DatabaseError, Dialect, Rows, open_database

__all__ = ["Cursor", "Database", "DatabaseError", "Dialect", "Rows", "open_database"]
