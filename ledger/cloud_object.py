"""A ledger as one object on Google Cloud Storage, replaced only where it is still what was read.

The object is a gzipped SQLite database. Its generation is the comparison in compare-and-swap: an upload under `ifGenerationMatch`
(https://cloud.google.com/storage/docs/request-preconditions) succeeds for one of all who have read the same generation.
"""

import gzip
import os
import random
import re
import sqlite3
import time
import uuid
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import sqlalchemy as sql
from sqlalchemy import exc

from ledger import tables
from ledger.database import told
from ledger.entries import Entry
from ledger.store import Store, missing
from transforms.errors import CheckError, ConfigError, RunnerError

if TYPE_CHECKING:
    from google.cloud.storage import Bucket

OBJECT = "ledger.db.gz"
"""Its name in the folder that the URL names."""

RETRY_SECONDS = 60.0
"""For how long a call is tried again that fails for now (429, 500, 502, 503, 504, a broken connection)."""

_TIMEOUT = 30.0
_PAUSE = 0.2
"""The longest wait, in seconds, after somebody else was faster."""

_LEVEL = 1
"""Of gzip: the entries of nightly runs are alike, and already small with the fastest."""

_URL = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?P<folder>(/[^/\x00-\x1f?#\[\]*]+)*)/?")


@dataclass(frozen=True)
class _Snapshot:
    """What one generation of the object holds."""

    generation: int
    database: bytes


class CloudObject(Store):
    """A ledger on Cloud Storage. Not for several threads at once."""

    def __init__(self, url: str) -> None:
        """Opens nothing yet.

        Args:
            url: gs://bucket/folder/. In the folder there is one object, `ledger.db.gz`.

        Raises:
            ConfigError: the URL is none of a folder on Cloud Storage.
        """
        found = _URL.fullmatch(url)
        if found is None or {".", ".."} & set(found["folder"].split("/")):
            raise ConfigError(f"ledger.url: {url} is no folder on Cloud Storage; write gs://bucket/ledger/")
        self.name = f"gs://{found['bucket']}{found['folder']}/"
        self._bucket_name, self._path = found["bucket"], f"{found['folder']}/{OBJECT}".lstrip("/")
        self._seen: _Snapshot | None = None

    def exists(self) -> bool:
        with self._calling():
            return self._bucket.get_blob(self._path, **self._call) is not None

    def create(self, rows: Sequence[tuple[Entry, str]] = ()) -> bool:
        return self._replace(_Snapshot(0, b""), lambda connection: tables.make(connection, rows))

    def append(self, entries: Sequence[Entry]) -> bool:
        try:
            return self._replace(self._seen or self._read(), lambda connection: tables.append(connection, entries))
        except exc.IntegrityError:
            return False

    @contextmanager
    def _connected(self) -> Iterator[sql.Connection]:
        with closing(_database(self._read())) as database, told(self.name), _engine(database).begin() as connection:
            yield connection

    def _read(self) -> _Snapshot:
        """The object as it is now; downloaded only if it is another one than before."""
        with self._calling():
            while True:
                newest = self._bucket.get_blob(self._path, **self._call)
                if newest is None:
                    raise missing(self.name)
                if self._seen is None or self._seen.generation != newest.generation:
                    self._seen = self._download(int(newest.generation))
                if self._seen is not None:
                    return self._seen

    def _download(self, generation: int) -> _Snapshot | None:
        """One generation of the object; None where it was replaced meanwhile."""
        from google.api_core.exceptions import NotFound

        try:
            packed = self._bucket.blob(self._path, generation=generation).download_as_bytes(**self._call)
        except NotFound:
            return None
        try:
            return _Snapshot(generation, gzip.decompress(packed))
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise CheckError(f"ledger {self.name}: {OBJECT} is damaged; restore it from a backup") from None

    def _replace(self, seen: _Snapshot, write: Callable[[sql.Connection], None]) -> bool:
        """Replaces what was seen by what is written to it. False where somebody else was faster."""
        from google.api_core.exceptions import PreconditionFailed

        with closing(_database(seen)) as database:
            with told(self.name), _engine(database).begin() as connection:
                write(connection)
            content = database.serialize()
        blob = self._bucket.blob(self._path)
        # An upload whose answer was lost is tried again, and then fails on itself.
        blob.metadata = {"upload": uuid.uuid4().hex}
        with self._calling():
            try:
                packed = gzip.compress(content, _LEVEL)
                blob.upload_from_string(packed, "application/gzip", if_generation_match=seen.generation, **self._call)
            except PreconditionFailed:
                newest = self._bucket.get_blob(self._path, **self._call)
                if newest is None or newest.metadata != blob.metadata:
                    time.sleep(random.uniform(0, _PAUSE))
                    return False
                blob = newest
        self._seen = _Snapshot(int(blob.generation), content)
        return True

    @cached_property
    def _bucket(self) -> "Bucket":
        from google.cloud.storage import Client

        # Else it asks for the bucket's own data, in the background, for traces that nobody has switched on.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        with self._calling():
            client = Client(project=None)
            weakref.finalize(self, client.close)
            return client.bucket(self._bucket_name)

    @cached_property
    def _call(self) -> dict[str, Any]:
        """How each call is made. All may be tried again: an upload names the generation that it replaces."""
        from google.cloud.storage.retry import DEFAULT_RETRY

        return {"timeout": _TIMEOUT, "retry": DEFAULT_RETRY.with_timeout(RETRY_SECONDS)}

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Says in a sentence what a call failed at.

        Raises:
            RunnerError: the storage refuses or cannot be reached.
        """
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
        from google.cloud.storage.exceptions import DataCorruption
        from requests import RequestException

        try:
            yield
        except DefaultCredentialsError:
            raise RunnerError(
                f"ledger {self.name}: there are no credentials for Cloud Storage; run gcloud auth application-default login, "
                f"or let GOOGLE_APPLICATION_CREDENTIALS name a key file"
            ) from None
        except (GoogleAPICallError, RetryError, GoogleAuthError, DataCorruption, RequestException, OSError) as error:
            raise RunnerError(
                f"ledger {self.name}: Cloud Storage failed ({_reason(error)}); correct that and start again"
            ) from None


def _database(snapshot: _Snapshot) -> sqlite3.Connection:
    """A database in memory with what the object holds; an empty one for none."""
    database = sqlite3.connect(":memory:")
    if snapshot.database:
        database.deserialize(snapshot.database)
    return database


def _engine(database: sqlite3.Connection) -> sql.Engine:
    return sql.create_engine("sqlite://", creator=lambda: database, poolclass=sql.StaticPool)


def _reason(error: BaseException) -> str:
    """What the storage says, in one line."""
    error = getattr(error, "cause", None) or error  # of what was tried again until the time was over
    errors = getattr(error, "errors", None) or [{}]
    said = errors[0].get("message") if isinstance(errors[0], dict) else None
    code = getattr(error, "code", None)
    if code:
        return f"{int(code)} {HTTPStatus(code).phrase}" + (f": {said.splitlines()[0]}" if said else "")
    return type(error).__name__
