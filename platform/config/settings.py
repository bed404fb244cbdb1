"""Every setting, read once from the environment.

A bare checkout works for `manage.py` against the embedded services because the one-command stack writes the
same variables into `$DATA_DIR/env.json`; a real environment variable always wins over that file.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import dj_database_url
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from whitenoise.compress import Compressor

from config.mail import mail_server
from config.proxies import read_header, read_networks
from config.secret_files import read_secret_files
from config.self_service import read_self_service
from tenants.broker import celery_settings
from tenants.valkey import place_of

# Requests and jobs run beside each other: a BLAS with a thread for each core only makes them wait for one another.
# Set before numpy is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent.parent
DATA_DIR = Path(os.environ.get("DATA_DIR", ROOT / "var")).resolve()


def _stack_environment() -> dict[str, str]:
    path = DATA_DIR / "env.json"
    return json.loads(path.read_text()) if path.exists() else {}


_ENV = {**_stack_environment(), **read_secret_files(os.environ), **os.environ}


def env(name: str, default: str | None = None) -> str:
    value = _ENV.get(name, default)
    if value is None:
        raise ImproperlyConfigured(f"Set {name}, or start the embedded services with `make run`.")
    return value


def flag(name: str, default: bool = False) -> bool:
    return env(name, "1" if default else "0").lower() in {"1", "true", "yes", "on"}


def env_list(name: str, default: str = "") -> list[str]:
    """Values that are separated by commas."""
    return [part.strip() for part in env(name, default).split(",") if part.strip()]


def read_moment(name: str, value: str) -> dt.datetime | None:
    """A moment with its zone, as RFC 3339 writes it; None where there is none."""
    if not value:
        return None
    try:
        found = dt.datetime.fromisoformat(value)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ImproperlyConfigured(f"{name} is a moment such as 2027-06-30T00:00:00Z, not {value!r}.")
    return found


DEBUG = flag("DEBUG")
SECRET_KEY = env("SECRET_KEY")
# Former ones, the newest first: sessions, links and what was sealed under them stay readable (docs/encryption.md).
SECRET_KEY_FALLBACKS = env_list("SECRET_KEY_FALLBACKS")
# What wraps the data keys of tenants (tenants.accounts.master_keys): a file with keys, or aws-kms:///alias/NAME?region=…
MASTER_KEY_FILE, KMS_URL = env("MASTER_KEY_FILE", ""), env("KMS_URL", "")
# Unwrapped data keys in a process: how many, for how long, and for how long while the KMS is away.
KEY_CACHE_KEYS = int(env("KEY_CACHE_KEYS", "1000"))
KEY_CACHE_S, KEY_CACHE_AWAY_S = float(env("KEY_CACHE_S", "300")), float(env("KEY_CACHE_AWAY_S", "3600"))
HOST = env("HOST", "127.0.0.1")
PORT = int(env("PORT", "8000"))
# Threads that answer requests; each keeps a database connection.
WEB_THREADS = int(env("WEB_THREADS", "16"))
# Connections that a web process accepts at a time, open streams and idle browsers among them.
WEB_CONNECTIONS = int(env("WEB_CONNECTIONS", "4096"))
# While this file is there, /readyz says that the process is about to stop (standalone.alone); empty: it never does.
DRAIN_FILE = env("DRAIN_FILE", "")
BASE_URL = env("BASE_URL", f"http://{HOST}:{PORT}")
# The stack and probes of this machine ask by address.
_HERE = [f"[{HOST}]" if ":" in HOST else HOST, "localhost", "127.0.0.1", "[::1]"]
ALLOWED_HOSTS = list(dict.fromkeys([*env_list("ALLOWED_HOSTS"), *_HERE]))
CSRF_TRUSTED_ORIGINS = [BASE_URL, *env_list("CSRF_TRUSTED_ORIGINS")]
# Who may tell for whom they ask, and by which header (config.proxies); nobody, unless this names them.
TRUSTED_PROXIES = read_networks(env("TRUSTED_PROXIES", ""))
TRUSTED_PROXY_HEADER = read_header(env("TRUSTED_PROXY_HEADER", "X-Forwarded-For"))

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "csp",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "tenants.accounts",
    "tenants.jobs",
    "tenants.events",
    "tenants.people",
    "tenants.datasets",
    "tenants.retrieval",
    "tenants.learning",
    "tenants.moderation",
    "tenants.generation",
    "workers",
    "api",
    "console",
    "backoffice",
    "standalone",
]

MIDDLEWARE = [
    "config.middleware.RequestContextMiddleware",
    "config.metrics.MetricsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "config.cors.ApiOrigins",
    "config.middleware.ContentPolicy",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.middleware.BrowserSessions",
    "config.middleware.BrowserLanguages",
    "django.middleware.common.CommonMiddleware",
    "config.middleware.BrowserForms",
    "config.middleware.BrowserPeople",
    "config.middleware.BrowserMessages",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "console.context_processors.console",
            ],
        },
    }
]

# --- Database: the application's role never owns a table, so that row-level security binds it. -----------


# Of libpq: seconds, probes, and milliseconds for what was sent and is not acknowledged.
_DATABASE_PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


def _database(url: str, max_age_s: int) -> dict[str, object]:
    parsed: dict[str, Any] = {
        **dj_database_url.parse(
            url, engine="config.postgres", conn_max_age=max_age_s, conn_health_checks=True
        )
    }
    # A database that is away must fail a request in seconds, and so must one that was cut off without a word.
    for name, value in _DATABASE_PATIENCE.items():
        parsed.setdefault("OPTIONS", {}).setdefault(name, value)
    return parsed


DATABASES = {"default": _database(env("DATABASE_URL"), 600)}
# The role that bypasses row-level security: only for processes that work across tenants (tenants.scope), each of which
# has few such connections. And the owner's: only for `migrate`.
if _url := env("OPERATOR_DATABASE_URL", ""):
    DATABASES["operator"] = _database(_url, 60)
OPERATOR_CONNECTIONS = int(env("OPERATOR_CONNECTIONS", "2"))
if _url := env("MIGRATION_DATABASE_URL", ""):
    DATABASES["migration"] = {**dj_database_url.parse(_url)}
# Off behind a pooler that gives a connection to another client after each transaction.
PREPARED_STATEMENTS = flag("PREPARED_STATEMENTS", default=True)
# Owns the one function that reads the lexical index past row-level security; nobody can become it.
LEXICAL_ROLE = env("LEXICAL_ROLE", "crosslight_lexical")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Valkey: broker and cache in one server; only keys with a TTL may be evicted. -------------------------

REDIS_URL = env("REDIS_URL")
BROKER_URL = env("BROKER_URL", REDIS_URL)
CACHES = {
    "default": {
        "BACKEND": "tenants.valkey.ValkeyCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "django",
    }
}

try:
    _BROKER = celery_settings(BROKER_URL)
    place_of(REDIS_URL)
except ValueError as error:
    raise ImproperlyConfigured(f"REDIS_URL or BROKER_URL: {error}") from error
CELERY_BROKER_URL = _BROKER["broker_url"]
CELERY_BROKER_TRANSPORT_OPTIONS = _BROKER["broker_transport_options"]
CELERY_BROKER_HEARTBEAT = _BROKER.get("broker_heartbeat")
# Celery's own where the broker is Valkey, whose options say when it gives up.
CELERY_BROKER_CONNECTION_TIMEOUT = _BROKER.get("broker_connection_timeout", 4)
CELERY_TASK_QUEUES = _BROKER.get("task_queues")
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CONSUMER = "config.celery_classes:Consumer"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A worker whose broker is away waits for it, however long.
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TIMEZONE = "UTC"

# How many jobs of a queue this worker runs at a time, such as `index:2,default:3`; others have all of its threads.
QUEUE_PLACES = {
    name: int(count) for name, _, count in (one.partition(":") for one in env_list("QUEUE_PLACES"))
}
JOB_LEASE_S = float(env("JOB_LEASE_S", "30"))
JOB_RESEND_S = float(env("JOB_RESEND_S", "15"))
JOB_SWEEP_S = float(env("JOB_SWEEP_S", "5"))
# How often each tenant is looked after (tenants.pipeline.upkeep): where there are very many, more seldom.
UPKEEP_S = int(env("UPKEEP_S", "300"))
# Then finished jobs go from the database into a file in the tenant's storage; 0 keeps them.
JOB_KEEP_DAYS = int(env("JOB_KEEP_DAYS", "90"))


def _every(seconds: float, task: str) -> dict:
    """A task of the system queue; one that waited for two periods is dropped, as the next one does its work."""
    return {"task": task, "schedule": seconds, "options": {"queue": "system", "expires": 2 * seconds}}


CELERY_BEAT_SCHEDULER = "config.celery_classes:OncePerPeriod"
CELERY_BEAT_SCHEDULE = {
    "sweep-jobs": _every(JOB_SWEEP_S, "workers.sweep_jobs"),
    "flush-usage": _every(30.0, "workers.flush_usage"),
    # Asked more often than a tenant is due (UPKEEP_S): workers of other hosts join where one is not enough.
    "tend-tenants": _every(30.0, "workers.tend_tenants"),
    "seal-records": _every(60.0, "workers.seal_records"),
    "stream-log": _every(30.0, "workers.stream_log"),
    "send-anchors": _every(60.0, "workers.send_anchors"),
    "sweep-webhooks": _every(JOB_SWEEP_S, "workers.sweep_webhooks"),
    "watch-quotas": _every(60.0, "workers.watch_quotas"),
    "tend-operators": _every(60.0, "workers.tend_operators"),
    "tend-self-service": _every(60.0, "workers.tend_self_service"),
    "canary": _every(15.0, "workers.ring_canaries"),
}

# --- Storage: content-addressed blobs in a folder or a bucket. -------------------------------------------

STORAGE_URL = env("STORAGE_URL", f"file://{DATA_DIR / 'blobs'}")


def _storage(url: str) -> dict:
    parts = urlparse(url)
    if parts.scheme == "file":
        return {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {
                "location": parts.path,
                "file_permissions_mode": 0o600,
                "directory_permissions_mode": 0o700,
            },
        }
    if parts.scheme == "s3":
        # Credentials and endpoint come from the AWS_* variables that boto3 itself reads.
        options = {"bucket_name": parts.netloc, "location": parts.path.strip("/"), "file_overwrite": True}
        if endpoint := env("AWS_ENDPOINT_URL", ""):
            options["endpoint_url"] = endpoint
        return {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
    raise ImproperlyConfigured(f"STORAGE_URL must start with file:// or s3://, not {parts.scheme}://.")


# Files of tenants are encrypted as they are stored; what is there is read either way (docs/encryption.md).
ENCRYPT_FILES = flag("ENCRYPT_FILES")
STORAGES = {
    "default": {
        "BACKEND": "tenants.datasets.encrypted_files.EncryptedStorage",
        "OPTIONS": {"inner": _storage(STORAGE_URL)},
    },
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
STATIC_URL = "/static/"
# Images have them collected already, where no process writes.
STATIC_ROOT = Path(env("STATIC_DIR", str(DATA_DIR / "static")))
WHITENOISE_USE_FINDERS = DEBUG
# Pages name files by their hash only. Maps of other people's bundles are not compressed: that took 33 s of CPU.
WHITENOISE_KEEP_ONLY_HASHED_FILES = True
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = (*Compressor.SKIP_COMPRESS_EXTENSIONS, "map")
SPOOL_DIR = DATA_DIR / "spool"
SPOOL_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
FILE_UPLOAD_TEMP_DIR = str(SPOOL_DIR)
# Of one asset, which may be a film, and of a file that holds many.
MAX_UPLOAD_BYTES = int(env("MAX_UPLOAD_BYTES", str(512 * 1024 * 1024)))
MAX_IMPORT_BYTES = int(env("MAX_IMPORT_BYTES", str(20 * 1024**3)))
# Of a request's body: bytes a second that a sender has to reach, and when even the largest has to be complete.
BODY_LEAST_RATE = int(env("BODY_LEAST_RATE", "4096"))
BODY_DEADLINE_S = float(env("BODY_DEADLINE_S", str(6 * 3600)))
# Addresses of S3 servers, comma-separated, that tenants may name for imports; AWS itself is always allowed. The workers
# connect to them: list nothing that only this installation should reach.
IMPORT_S3_ENDPOINTS = tuple(filter(None, env("IMPORT_S3_ENDPOINTS", "").split(",")))
# Uploads that survive broken connections; on one file system with SPOOL_DIR and a folder storage, they are moved.
UPLOADS_DIR = DATA_DIR / "uploads"
UPLOAD_EXPIRY_S = 24 * 3600
# Generations of indexes, derived from the database: delete them and they are built anew.
INDEX_DIR = DATA_DIR / "indexes"
# Up to so many vectors a tenant's index is one exact array in memory, without files.
INDEX_FLAT_MAX = int(env("INDEX_FLAT_MAX", "20000"))
# Recall@10 against exact search that a generation must reach to be published.
INDEX_RECALL = float(env("INDEX_RECALL", "0.99"))
# What a process holds of vectors in arrays of its own (mapped files are the kernel's to drop).
INDEX_MEMORY_BYTES = int(env("INDEX_MEMORY_BYTES", str(1 << 30)))
INDEX_MAPPED_BYTES = int(env("INDEX_MAPPED_BYTES", str(16 << 30)))
INDEX_BUILD_THREADS = int(env("INDEX_BUILD_THREADS", "1"))
# Without its index, a tenant with up to so many vectors is searched exactly from the database; a larger one waits.
INDEX_EXACT_MAX = int(env("INDEX_EXACT_MAX", "100000"))
# How long a search waits for an index that this host has to fetch from the storage, before it answers without it.
INDEX_FETCH_WAIT_S = float(env("INDEX_FETCH_WAIT_S", "3"))
# A host keeps the files of indexes that it searched within so many days, and fetches others when it is asked for them;
# 0: it keeps all.
INDEX_ARCHIVE_DAYS = int(env("INDEX_ARCHIVE_DAYS", "7"))
# Milvus, where tenants with more than ENGINE_ABOVE vectors of a model have their index; empty: there is none.
MILVUS_URL = env("MILVUS_URL", "")
# `user:password`, or an API key; and a database of its own there, where others use the server too.
MILVUS_TOKEN, MILVUS_DATABASE = env("MILVUS_TOKEN", ""), env("MILVUS_DATABASE", "")
# How a copy is indexed: ivf-sq8 (a quarter of the memory, filters cost no recall) or hnsw.
MILVUS_INDEX = env("MILVUS_INDEX", "ivf-sq8")
if MILVUS_INDEX not in ("ivf-sq8", "hnsw"):
    raise ImproperlyConfigured(f"MILVUS_INDEX is ivf-sq8 or hnsw, not {MILVUS_INDEX!r}.")
MILVUS_TIMEOUT_S = float(env("MILVUS_TIMEOUT_S", "5"))
ENGINE_ABOVE = int(env("ENGINE_ABOVE", "5000000"))
# What a process keeps of candidate lists, about 2.5 kB each.
CANDIDATE_MEMORY_BYTES = int(env("CANDIDATE_MEMORY_BYTES", str(32 << 20)))
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024
# The mapping of an import has three for each of up to a thousand columns.
DATA_UPLOAD_MAX_NUMBER_FIELDS = 3_100
FILE_UPLOAD_HANDLERS = ["config.uploads.CappedUploadHandler"]

# --- Care of data ----------------------------------------------------------------------------------------

# tcp://host:port or unix:///path of a clamd; empty: uploads are not scanned, and everyone is told so.
CLAMD_URL = env("CLAMD_URL", "")
# Refuse what could not be scanned, instead of keeping it as not scanned.
SCAN_REQUIRED = flag("SCAN_REQUIRED")
# Where the installation is, in its operator's words; shown to workspaces, and not checked.
DATA_REGION = env("DATA_REGION", "").strip()
# How long backups are kept, as erasure receipts promise it; whoever runs the backups has to keep that promise.
BACKUP_KEEP_DAYS = int(env("BACKUP_KEEP_DAYS", "30"))
# Where the embedded Postgres sends its log; the stack reads it, and `doctor` here.
WAL_ARCHIVE = env("WAL_ARCHIVE", "")
EXPORT_KEEP_DAYS = int(env("EXPORT_KEEP_DAYS", "7"))

# --- Webhooks ---------------------------------------------------------------------------------------------

# Only for installations without a public network: plain HTTP, ports ("9000" or "9000-9999") beside 80, 443, 8080 and
# 8443, and hosts and networks that webhooks may reach although they are private.
WEBHOOK_ALLOW_HTTP = flag("WEBHOOK_ALLOW_HTTP")
WEBHOOK_PORTS = tuple(filter(None, env("WEBHOOK_PORTS", "").split(",")))
WEBHOOK_ALLOWED_HOSTS = tuple(filter(None, env("WEBHOOK_ALLOWED_HOSTS", "").lower().split(",")))
WEBHOOK_ALLOWED_NETWORKS = tuple(filter(None, env("WEBHOOK_ALLOWED_NETWORKS", "").split(",")))
# For one attempt, from resolving the name to the answer's status.
WEBHOOK_TIMEOUT_S = float(env("WEBHOOK_TIMEOUT_S", "15"))
# How long a worker that died keeps its endpoint from the others; longer than two attempts.
WEBHOOK_LEASE_S = float(env("WEBHOOK_LEASE_S", "60"))
# An endpoint where nothing came through for so long is disabled.
WEBHOOK_FAILING_DAYS = int(env("WEBHOOK_FAILING_DAYS", "5"))
# How long events and deliveries are kept to be looked at and sent again.
WEBHOOK_KEEP_DAYS = int(env("WEBHOOK_KEEP_DAYS", "30"))

# --- Single sign-on ---------------------------------------------------------------------------------------

# The same for identity providers of tenants that lie in a private network (docs/single-sign-on.md).
SSO_ALLOW_HTTP = flag("SSO_ALLOW_HTTP")
SSO_PORTS = tuple(filter(None, env("SSO_PORTS", "").split(",")))
SSO_ALLOWED_HOSTS = tuple(filter(None, env("SSO_ALLOWED_HOSTS", "").lower().split(",")))
SSO_ALLOWED_NETWORKS = tuple(filter(None, env("SSO_ALLOWED_NETWORKS", "").split(",")))
# For one request to a provider, from resolving the name to the last byte.
SSO_TIMEOUT_S = float(env("SSO_TIMEOUT_S", "8"))
# Name servers that are asked for proofs of domains, as "address" or "address:port"; empty: those of this machine.
SSO_DNS_SERVERS = tuple(filter(None, env("SSO_DNS_SERVERS", "").split(",")))

# --- The audit log's way out ------------------------------------------------------------------------------

# A syslog server (RFC 5424) that gets the audit logs of all tenants and the operators' log in OCSF: udp://, tcp:// or
# tls://host:port; and the authorities that its certificate is trusted by, where they are none of the system's.
SYSLOG_URL, SYSLOG_CA = env("SYSLOG_URL", ""), env("SYSLOG_CA", "")
if SYSLOG_URL and (urlparse(SYSLOG_URL).scheme not in ("udp", "tcp", "tls") or not urlparse(SYSLOG_URL).port):
    raise ImproperlyConfigured(f"SYSLOG_URL is udp://, tcp:// or tls://host:port, not {SYSLOG_URL!r}.")

# --- Models ----------------------------------------------------------------------------------------------

MODELS_DIR = Path(env("CROSSLIGHT_MODELS", str(DATA_DIR / "models")))
os.environ.setdefault("CROSSLIGHT_MODELS", str(MODELS_DIR))
# The space that ships of workspaces that never chose a model: `open-2`, or `open-1` or `prior-2`, which take less time
# a picture; empty: the best whose encoders are prepared on this machine (tenants.retrieval.model_store).
DEFAULT_MODEL = env("DEFAULT_MODEL", "").replace("-", ":")
if DEFAULT_MODEL not in ("", "open:2", "open:1", "prior:2", "prior:1"):
    raise ImproperlyConfigured(
        f"DEFAULT_MODEL is open-2, open-1, prior-2 or prior-1, not {env('DEFAULT_MODEL', '')!r}."
    )
# What recognises speech in recordings and films (ml.speech): whisper-base, or whisper-tiny-en for English alone.
SPEECH_MODEL = os.environ.setdefault("SPEECH_MODEL", env("SPEECH_MODEL", "whisper-base"))
if SPEECH_MODEL not in ("whisper-base", "whisper-tiny-en"):
    raise ImproperlyConfigured(f"SPEECH_MODEL is whisper-base or whisper-tiny-en, not {SPEECH_MODEL!r}.")
# Tenants' own joint spaces, copied from the storage when they are first used, and what a process holds of them.
SPACES_DIR = DATA_DIR / "spaces"
SPACES_MEMORY_BYTES = int(env("SPACES_MEMORY_BYTES", str(512 << 20)))
# Threads that prepare the rows of an import, beside the one that reads and stores: one more than there are cores, as
# some wait for a decoder.
IMPORT_THREADS = int(env("IMPORT_THREADS", str(len(os.sched_getaffinity(0)) + 1)))
# Streams of items (`/datasets/{id}/stream`, brokers): threads of a process that encode what they bring, items a second
# that one workspace sends to one process, and requests of one workspace, and of all, that one process keeps open.
STREAM_THREADS = int(env("STREAM_THREADS", "2"))
STREAM_RATE = float(env("STREAM_RATE", "2000"))
STREAMS_OF_TENANT = int(env("STREAMS_OF_TENANT", "4"))
STREAMS_AT_ONCE = int(env("STREAMS_AT_ONCE", "32"))
# Seconds after which a request is ended, so that its client connects again and its key is checked like any other.
STREAM_LONGEST_S = float(env("STREAM_LONGEST_S", "900"))
# Brokers that tenants' sources name (`/stream-sources`), for installations without a public network: without TLS, ports
# beside the usual ones, and hosts and networks that may be reached although they are private.
STREAM_ALLOW_PLAIN = flag("STREAM_ALLOW_PLAIN")
STREAM_PORTS = tuple(filter(None, env("STREAM_PORTS", "").split(",")))
STREAM_ALLOWED_HOSTS = tuple(filter(None, env("STREAM_ALLOWED_HOSTS", "").lower().split(",")))
STREAM_ALLOWED_NETWORKS = tuple(filter(None, env("STREAM_ALLOWED_NETWORKS", "").split(",")))
# A Ray cluster (`host:6379` of a node beside this worker, or `ray://host:10001`) on which stored texts and pictures are
# embedded for another model; empty: the workers do it.
RAY_ADDRESS = env("RAY_ADDRESS", "")
# ONNX Runtime on a graphics card (ml.encoders._onnx, which reads the environment): the card's number, its memory at
# most (0: all), TensorRT in half precision, and where it keeps the engines that it builds for this card.
for _name, _value in (
    ("CROSSLIGHT_ONNX_DEVICE", "0"),
    ("CROSSLIGHT_ONNX_MEMORY_BYTES", "0"),
    ("CROSSLIGHT_ONNX_FP16", "1"),
):
    if not os.environ.setdefault(_name, env(_name, _value) or _value).isdecimal():
        raise ImproperlyConfigured(f"{_name} is a whole number from 0 on, not {os.environ[_name]!r}.")
os.environ.setdefault("CROSSLIGHT_ONNX_ENGINES", env("CROSSLIGHT_ONNX_ENGINES", str(DATA_DIR / "engines")))
# Pictures that come one by one and are encoded at the same time; 1 fills larger batches for a graphics card.
EMBED_THREADS = int(env("EMBED_THREADS", str(len(os.sched_getaffinity(0)))))
DECODER_MEMORY_BYTES = int(env("DECODER_MEMORY_BYTES", str(1024 * 1024 * 1024)))
DECODER_TIMEOUT_S = float(env("DECODER_TIMEOUT_S", "20"))
# Of files that are searched by: each is waited for by a person, and by a thread that answers requests. A workspace has
# all but one of the processes at a time, and so many more of its searches wait for their turn; more are refused.
DECODER_QUERY_TIMEOUT_S = float(env("DECODER_QUERY_TIMEOUT_S", "5"))
DECODER_QUERY_CHILDREN = int(env("DECODER_QUERY_CHILDREN", "3"))
DECODER_QUERIES_WAITING = int(env("DECODER_QUERIES_WAITING", "4"))

# --- Learning --------------------------------------------------------------------------------------------

# Of a map: the assets that it shows at most, a fair sample of more; what the process that draws one by UMAP may take.
MAP_MAX_POINTS = int(env("MAP_MAX_POINTS", "1000000"))
MAP_MEMORY_BYTES = int(env("MAP_MEMORY_BYTES", str(4 << 30)))
MAP_CPU_S = int(env("MAP_CPU_S", "3600"))

# Where the models of tenants are trained: shards and checkpoints, until what is learnt is kept in the storage.
LEARNING_DIR = DATA_DIR / "learning"
# Whether the demo asks for a small training after the start.
DEMO_MODEL = flag("DEMO_MODEL", default=True)
LEARNING_THREADS = int(env("LEARNING_THREADS", str(len(os.sched_getaffinity(0)))))
# Address space of a training process; 0 for no limit, which CUDA needs.
LEARNING_MEMORY_BYTES = int(env("LEARNING_MEMORY_BYTES", str(16 << 30)))

# --- Auditing --------------------------------------------------------------------------------------------

# Memory of one examining process, and how many examine at a time in a worker. On a card (`cuda`) it is the resident
# memory that counts, as CUDA reserves more address space than there is memory (ml.media.process).
AUDIT_DEVICE = env("AUDIT_DEVICE", "cpu")
if AUDIT_DEVICE not in ("cpu", "cuda"):
    raise ImproperlyConfigured(f"AUDIT_DEVICE is cpu or cuda, not {AUDIT_DEVICE!r}.")
AUDIT_MEMORY_BYTES = int(env("AUDIT_MEMORY_BYTES", str(6 << 30)))
AUDIT_CHILDREN = int(env("AUDIT_CHILDREN", "2"))
# Keys with which this installation signs what it generates, made when the first is needed: sealed in the database, or
# in a folder that all hosts mount. Without one it is where a former release kept them.
PROVENANCE_MOUNTED = bool(env("PROVENANCE_DIR", ""))
PROVENANCE_DIR = Path(env("PROVENANCE_DIR", "") or DATA_DIR / "provenance")
# Learned detectors of this installation, separated by blanks: hf-image:/models/generated-or-real#fake
AUDIT_DETECTORS = tuple(env("AUDIT_DETECTORS", "").split())
# How long the content of an audit that is no asset is kept for people to look at.
AUDIT_CONTENT_DAYS = int(env("AUDIT_CONTENT_DAYS", "30"))
# How long the evidence of such an audit is kept; that of an asset goes with the asset.
AUDIT_EVIDENCE_DAYS = int(env("AUDIT_EVIDENCE_DAYS", "365"))
# Hash lists in memory, in each process that matches.
HASH_LISTS_BYTES = int(env("HASH_LISTS_BYTES", str(512 << 20)))
# Where checkpoints of the records are kept outside (tenants.moderation.record.anchors), at most one in so many seconds:
# a bucket with object lock (`s3://bucket/prefix`), and a time stamp authority (RFC 3161) with its roots (a PEM file).
RECORD_ANCHOR_S = int(env("RECORD_ANCHOR_S", "300"))
RECORD_BUCKET = env("RECORD_BUCKET", "")
RECORD_BUCKET_DAYS = int(env("RECORD_BUCKET_DAYS", "365"))
# COMPLIANCE: nobody can shorten it, the bucket's owner included; GOVERNANCE: who has the right to, can.
RECORD_BUCKET_MODE = env("RECORD_BUCKET_MODE", "COMPLIANCE")
# Unlike those of STORAGE_URL: whoever can delete files there should not be able to write here, and the other way.
RECORD_BUCKET_ENDPOINT = env("RECORD_BUCKET_ENDPOINT", env("AWS_ENDPOINT_URL", ""))
RECORD_BUCKET_ACCESS_KEY = env("RECORD_BUCKET_ACCESS_KEY", "")
RECORD_BUCKET_SECRET_KEY = env("RECORD_BUCKET_SECRET_KEY", "")
RECORD_TSA_URL, RECORD_TSA_CA = env("RECORD_TSA_URL", ""), env("RECORD_TSA_CA", "")
if RECORD_BUCKET and not RECORD_BUCKET.startswith("s3://"):
    raise ImproperlyConfigured(f"RECORD_BUCKET must start with s3://, not be {RECORD_BUCKET!r}.")
if RECORD_BUCKET_MODE not in ("COMPLIANCE", "GOVERNANCE"):
    raise ImproperlyConfigured(f"RECORD_BUCKET_MODE is COMPLIANCE or GOVERNANCE, not {RECORD_BUCKET_MODE!r}.")
if bool(RECORD_TSA_URL) != bool(RECORD_TSA_CA):
    raise ImproperlyConfigured(
        "Set RECORD_TSA_URL and RECORD_TSA_CA, the file of its root certificates, or neither."
    )
# How long a reviewer's claim on a flag lasts before somebody else may take it.
REVIEW_LEASE_S = float(env("REVIEW_LEASE_S", "600"))

# --- Generation ------------------------------------------------------------------------------------------

# Which generator makes what (ml.generators), such as hf-image:/models/flux; empty: that kind is turned off.
GENERATORS = {
    "image": env("GENERATOR_IMAGE", "small-picture"),
    "video": env("GENERATOR_VIDEO", "small-clip"),
    "audio": env("GENERATOR_AUDIO", "rules-music"),
}
# Drawn for each picture, of which the one that fits the prompt best is kept.
GENERATION_CANDIDATES = int(env("GENERATION_CANDIDATES", "2"))
# What people see and hear (tenants.generation.disclosure): an icon in pictures and films, and a notice spoken before
# sound. `off` and `on` are what workspaces begin with, `enforced` is what none of them turns off.
GENERATION_ICON, GENERATION_NOTICE = env("GENERATION_ICON", "on"), env("GENERATION_NOTICE", "off")
for _name, _value in (("GENERATION_ICON", GENERATION_ICON), ("GENERATION_NOTICE", GENERATION_NOTICE)):
    if _value not in ("off", "on", "enforced"):
        raise ImproperlyConfigured(f"{_name} is off, on or enforced, not {_value!r}.")
# The icon's letters, or a PNG in their place; its corner, and its height as a share of the shorter side.
GENERATION_ICON_TEXT, GENERATION_ICON_FILE = (
    env("GENERATION_ICON_TEXT", "AI"),
    env("GENERATION_ICON_FILE", ""),
)
GENERATION_ICON_CORNER = env("GENERATION_ICON_CORNER", "bottom-right")
GENERATION_ICON_SIZE = float(env("GENERATION_ICON_SIZE", "0.08"))
# An authority (RFC 3161) that stamps the time on signatures of what is generated, its root certificates (a PEM file, by
# which audits and /check know its stamps, too), how long it may take, and where it may be beside the public internet.
GENERATION_TSA_URL, GENERATION_TSA_CA = env("GENERATION_TSA_URL", ""), env("GENERATION_TSA_CA", "")
GENERATION_TSA_TIMEOUT_S = float(env("GENERATION_TSA_TIMEOUT_S", "10"))
GENERATION_TSA_PORTS = tuple(env_list("GENERATION_TSA_PORTS"))
GENERATION_TSA_ALLOWED_HOSTS = tuple(env_list("GENERATION_TSA_ALLOWED_HOSTS"))
GENERATION_TSA_ALLOWED_NETWORKS = tuple(env_list("GENERATION_TSA_ALLOWED_NETWORKS"))
if GENERATION_TSA_URL and not GENERATION_TSA_CA:
    raise ImproperlyConfigured(
        "Set GENERATION_TSA_CA, the file of the authority's root certificates, as well."
    )
# A recording in place of the English one that ships.
GENERATION_NOTICE_FILE = env("GENERATION_NOTICE_FILE", "")

# The page /check and POST /api/v1/check: anybody learns whether a file was made here, without an account. Of one file,
# and checks a minute of one network.
PUBLIC_CHECK = flag("PUBLIC_CHECK", default=any(GENERATORS.values()))
PUBLIC_CHECK_BYTES = int(env("PUBLIC_CHECK_BYTES", str(64 * 1024 * 1024)))
PUBLIC_CHECK_RATE = int(env("PUBLIC_CHECK_RATE", "10"))

# --- Accounts and sessions -------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
# Of passwords that are chosen from now on; what was chosen before goes on to open its account.
_OF_DJANGO = "django.contrib.auth.password_validation"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"{_OF_DJANGO}.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {
        "NAME": f"{_OF_DJANGO}.UserAttributeSimilarityValidator",
        "OPTIONS": {"user_attributes": ("name", "email")},
    },
    {"NAME": "tenants.accounts.password_rules.GuessablePasswordValidator"},
]
# Operators need a second factor before the pages under /operator/ open.
OPERATOR_SECOND_FACTOR = flag("OPERATOR_SECOND_FACTOR")
LOGIN_URL = "console:login"
LOGIN_REDIRECT_URL = "console:home"
# A reset link works this long; whoever handed it out may have to read it over the telephone.
PASSWORD_RESET_TIMEOUT = 4 * 3600
SESSION_ENGINE = "tenants.accounts.sessions"
# A session ends unused for so long, and after so long in all; tenants can ask for less (tenants.accounts.security).
SESSION_IDLE_MINUTES = int(env("SESSION_IDLE_MINUTES", str(24 * 60)))
SESSION_MAX_MINUTES = int(env("SESSION_MAX_MINUTES", str(7 * 24 * 60)))
if not 5 <= SESSION_IDLE_MINUTES <= SESSION_MAX_MINUTES:
    raise ImproperlyConfigured("SESSION_IDLE_MINUTES is 5 or more, and no more than SESSION_MAX_MINUTES.")
SESSION_COOKIE_AGE = SESSION_MAX_MINUTES * 60
# Whoever proved so long ago who they are proves it again before keys, exports, erasures, roles and the like.
REAUTHENTICATION_MINUTES = int(env("REAUTHENTICATION_MINUTES", "10"))
if REAUTHENTICATION_MINUTES < 1:
    raise ImproperlyConfigured("REAUTHENTICATION_MINUTES is 1 or more.")
# With the session they end: a cookie of their own outlived signing out, and told the next person of the browser.
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_COOKIES = BASE_URL.startswith("https://")
SESSION_COOKIE_SECURE = SECURE_COOKIES
CSRF_COOKIE_SECURE = SECURE_COOKIES
# `manage.py check --deploy` asks for these (docs/operating.md). Whether a request came by https is the edge's to say
# (config.proxies), so there is no SECURE_PROXY_SSL_HEADER.
SECURE_SSL_REDIRECT = flag("SECURE_SSL_REDIRECT")
# Probes of this machine, and of what stands before it, need no TLS.
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)$"]
SECURE_HSTS_SECONDS = int(env("SECURE_HSTS_SECONDS", "0"))
SECURE_HSTS_INCLUDE_SUBDOMAINS = flag("SECURE_HSTS_INCLUDE_SUBDOMAINS")
SECURE_HSTS_PRELOAD = flag("SECURE_HSTS_PRELOAD")
SILENCED_SYSTEM_CHECKS = [
    # It looks for Django's class by name; `BrowserForms` is that class, which programs pass by.
    "security.W003",
    # Preloading a name into browsers is a promise for a whole domain, hard to take back: the operator's own choice.
    "security.W021",
]
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "media-src": [SELF, "blob:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
    }
}

# --- E-mail: without a host, links are shown to those who may hand them out. -----------------------------

_MAIL = mail_server(env)
EMAIL_HOST, EMAIL_PORT, EMAIL_USE_TLS, EMAIL_USE_SSL = _MAIL.host, _MAIL.port, _MAIL.starttls, _MAIL.tls
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _MAIL.user, _MAIL.password
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env("EMAIL_FROM", "crosslight@localhost")
# What people may do by themselves: sign up, ask for more, close their workspace (docs/self-service.md). Off by default.
SELF_SERVICE = read_self_service(env, mail=bool(EMAIL_HOST))

# --- API -------------------------------------------------------------------------------------------------

# Scripts of pages on origins that a tenant allows may call the API (config.cors says which); never with cookies.
CORS_URLS_REGEX = r"^/api/v1/"
CORS_ALLOW_CREDENTIALS = False
CORS_ALLOW_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
CORS_ALLOW_HEADERS = (
    *("authorization", "content-type", "idempotency-key", "prefer", "x-request-id", "last-event-id"),
    *("if-none-match", "if-range", "range", "traceparent", "tracestate"),
    *("tus-resumable", "upload-length", "upload-offset", "upload-metadata", "upload-checksum"),
)
CORS_EXPOSE_HEADERS = (
    *("Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id", "Server-Timing"),
    *("ETag", "Content-Disposition", "Content-Range", "Accept-Ranges", "Preference-Applied"),
    "Idempotent-Replayed",
    *(
        "Tus-Resumable",
        "Tus-Version",
        "Tus-Extension",
        "Tus-Max-Size",
        "Upload-Offset",
        "Upload-Length",
        "Upload-Expires",
    ),
)
CORS_PREFLIGHT_MAX_AGE = 600

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["api.auth.KeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["api.auth.HasScope"],
    "DEFAULT_PARSER_CLASSES": [
        "api.parsers.LimitedJSONParser",
        "rest_framework.parsers.MultiPartParser",
    ],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "api.schema.ProblemSchema",
    "EXCEPTION_HANDLER": "api.problems.exception_handler",
    "UNAUTHENTICATED_USER": None,
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Crosslight API",
    "DESCRIPTION": "Cross-modal search and content auditing for many tenants.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "PATH_CONVERTER_OVERRIDES": {"id": {"type": "string"}},
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    # It speaks of names of components in the OpenAPI document, not of a deployment; tests check the document.
    "ENABLE_DJANGO_DEPLOY_CHECK": False,
}

# --- Time, language, logs --------------------------------------------------------------------------------

USE_TZ = True
TIME_ZONE = "UTC"
# Of pages, by what the browser prefers or a cookie says; programs are answered in English.
LANGUAGE_CODE = "en"
LANGUAGES = (("en", "English"), ("zh-hans", "简体中文"))
LOCALE_PATHS = (ROOT / "platform" / "console" / "locale",)
USE_I18N = True
LANGUAGE_COOKIE_NAME = "language"
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SECURE = SECURE_COOKIES

# For /.well-known/security.txt (RFC 9116): whom to tell of a weakness (`mailto:` or `https:`, separated by commas),
# until when that holds (RFC 3339; a year at most is recommended), and the address of a policy.
SECURITY_CONTACT = env_list("SECURITY_CONTACT")
SECURITY_EXPIRES = read_moment("SECURITY_EXPIRES", env("SECURITY_EXPIRES", ""))
SECURITY_POLICY = env("SECURITY_POLICY", "")
if any(not contact.startswith(("mailto:", "https://", "tel:")) for contact in SECURITY_CONTACT):
    raise ImproperlyConfigured("SECURITY_CONTACT starts with mailto:, https:// or tel:.")
if bool(SECURITY_CONTACT) != bool(SECURITY_EXPIRES):
    raise ImproperlyConfigured("Set SECURITY_CONTACT and SECURITY_EXPIRES, or neither.")

METRICS_TOKEN = env("METRICS_TOKEN", "")
# Where traces go (config.tracing); OpenTelemetry reads the rest of its variables itself.
TRACES = bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))
if TRACES:
    # Inside the one that binds the request's id, outside everything else.
    MIDDLEWARE.insert(1, "config.tracing.TraceMiddleware")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"context": {"()": "config.logs.ContextFilter"}},
    "formatters": {
        "json": {
            "()": "pythonjsonlogger.msgspec.MsgspecFormatter",
            "format": "%(levelname)s %(name)s %(message)s %(request_id)s %(tenant_id)s %(job_id)s",
            "rename_fields": {"levelname": "level", "name": "logger"},
            "timestamp": True,
        }
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "json", "filters": ["context"]},
    },
    "root": {"handlers": ["stderr"], "level": env("LOG_LEVEL", "INFO")},
    "loggers": {
        "django.server": {"level": "WARNING"},
        # Refusals stand in the request log; only failures are worth a second line.
        "django.request": {"level": "ERROR"},
        "celery": {"level": "WARNING"},
        "botocore": {"level": "WARNING"},
        "faster_whisper": {"level": "WARNING"},
        # It says at each start which instructions the processor has.
        "faiss": {"level": "WARNING"},
        # It logs each piece of each upload, and refusals as errors.
        "resumable_upload": {"level": "CRITICAL"},
    },
}
