"""Backup and restore of a whole installation: database, stored files, secrets.

A backup is a folder that stands alone:

    manifest.json    format, release, migrations, rows and digest of every table, SHA-256 of the files below; its own
    SHA256SUMS       every other file of the backup, as `sha256sum -c` reads it
    database.dump    pg_dump's custom format, taken as a role that bypasses row-level security
    secrets.json     what makes sessions, encrypted values and keys go on working (0600)
    files/           the storage as it is: TENANT/KIND/AB/SHA256; hard links to the backup before where nothing changed

It is written beside as `.NAME.partial` and renamed when complete, so what has the name is whole.
"""
