"""The store: one schema and one set of statements for the embedded store and for PostgreSQL.

`schema.py` the tables, `dialect.py` all that stores differ in, `engine.py` the one door (grouped commits), `migrate.py`
the schema's versions; the other modules are statements by subject, plain functions of a connection.
"""
