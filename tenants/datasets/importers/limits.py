"""How much a reader takes in, in one place. Bytes unless a name says otherwise; what is beyond fails a row."""

from __future__ import annotations

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# --- Tables: CSV, JSON Lines, Parquet ---------------------------------------------------------------------

#: Of one cell of a table, in characters, and of one line of JSON Lines, in bytes.
CELL = 10 * MIB
#: Of all lines of one CSV record, in characters: a quote that is never closed swallows this much, then is noticed.
RECORD = 12 * MIB
#: Lines of rows that failed are read again as far as the file was read, and this many characters more.
REREAD = 4 * MIB
#: Empty lines in a row: so many are a row that fails, or a file of nothing else would never give one.
BLANK_LINES = 100_000
#: Columns of a table: metadata takes a hundred keys, a few more may be mapped away.
COLUMNS = 1000
#: Columns, types, encoding and delimiter are guessed from the first rows: this many, and not beyond this size.
SAMPLE_ROWS, SAMPLE_CHARS = 200, 4 * MIB
#: Nor after this many rows that fail.
SAMPLE_FAULTS = 20
#: Nor after this many characters of a CSV, where rows are long and fail.
SAMPLE_READ = 2 * RECORD
ENCODING_SAMPLE = 64 * KIB

# --- The child that reads Parquet -------------------------------------------------------------------------

#: Address space. pyarrow itself maps about 600 MiB, most of which it never touches.
PARQUET_MEMORY = 2 * GIB
#: Processor seconds for one batch of rows, and seconds that the parent waits for the next row.
PARQUET_CPU_S, PARQUET_WAIT_S = 60, 120
#: Decoded size that a batch of rows aims at, the most rows in one, and how many become Python objects at once.
PARQUET_BATCH, PARQUET_BATCH_ROWS, PARQUET_SLICE = 16 * MIB, 4096, 64
#: A file inside a cell: it is held in memory until it is saved.
PARQUET_FILE = 64 * MIB
#: One row as JSON, without the bytes of its file.
PARQUET_ROW = 64 * MIB

# --- Archives and folders ---------------------------------------------------------------------------------

#: Files of one archive, folder or prefix.
ENTRIES = 1_000_000
#: Characters of a path; one that serves as an external id has at most ID characters (the asset's column).
NAME, ID = 1024, 200
#: Folders within folders.
DEPTH = 50
#: A file may grow by this factor when inflated, once it is larger than the floor: pictures grow by 1, texts by 10.
RATIO, RATIO_FLOOR = 200, MIB
#: All inflated bytes of one archive in one run.
TOTAL = 1 << 40
#: Of a text file (100,000 characters of four bytes), of a caption or metadata beside a file, of a manifest.
TEXT, SIDECAR, MANIFEST = 400_003, MIB, 512 * MIB
#: Of the records before a tar entry that hold its long name.
TAR_HEADER = 64 * KIB
#: Files that share a key in a tar: more are read as several samples.
SAMPLE_MEMBERS = 100

# --- What people see --------------------------------------------------------------------------------------

PREVIEW_ROWS, EXAMPLES, EXCERPT = 20, 3, 200
#: Seconds in which a preview goes on counting rows after the ones that it shows.
PREVIEW_S = 1.0
#: Characters of a row's name (the receipt's column).
ROW_NAME = 300

# --- Buckets ----------------------------------------------------------------------------------------------

S3_CONNECT_S, S3_REQUEST_S, S3_TRIES = 10.0, 60.0, 3
#: Each piece is a request of its own.
S3_CHUNK = 8 * MIB
