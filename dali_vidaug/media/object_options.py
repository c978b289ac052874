"""Options for reading objects in buckets and on web servers, and obstore's stores that are made of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from os import environ
from pathlib import Path
from typing import Any

from dali_vidaug.urls import hide_secrets

_SHARE_OF_TIMEOUT = 3  # an answer that stalls for a third of the timeout is asked for again
ENVIRONMENT = (  # another value makes another store
    "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
    "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY",
)  # fmt: skip
_CLIENT_OPTIONS = frozenset(
    "allow_http allow_invalid_certificates connect_timeout default_headers http1_only http2_only "
    "http2_keep_alive_interval http2_keep_alive_timeout http2_keep_alive_while_idle pool_idle_timeout "
    "pool_max_idle_per_host proxy_url proxy_ca_certificate proxy_excludes root_certificate randomize_addresses "
    "read_timeout user_agent".split()
)


@dataclass(frozen=True)
class Storage:
    """How objects in buckets and on web servers are read: for ``scan`` and ``VideoLoader``.

    Credentials are found as other tools find them: in the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL,
    GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME, ...), from the machine's role, and, where boto3 is
    installed, in the profiles of ~/.aws.

    Args:
        in_flight: reads under way at the same time, >= 1.
        timeout: seconds that a read may take in all, its retries included.
        retries: how often a read that fails is tried again, >= 0: errors of the server, cut connections, no answer.
        whole_below: objects of fewer bytes are read whole.
        cache: a folder on a local disk that keeps what was read, for all processes of the machine; None: none.
        cache_limit: bytes in that folder; what was not used for longest goes. None: no limit.
        options: for obstore, by its names: endpoint, region, skip_signature (public buckets), access_key_id,
            secret_access_key, account_name, proxy_url, root_certificate, ...

    Raises:
        ValueError: a value is out of range.
    """

    in_flight: int = 32
    timeout: float = 30.0
    retries: int = 5
    whole_below: int = 1 << 18
    cache: str | os.PathLike[str] | None = None
    cache_limit: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("in_flight", 1), ("retries", 0), ("whole_below", 0)):
            value = getattr(self, name)
            if not (isinstance(value, int) and not isinstance(value, bool) and value >= least):
                raise ValueError(f"Storage: {name} must be an int >= {least}, got {value!r}")
        if not (isinstance(self.timeout, (int, float)) and 0.001 <= self.timeout <= 1e6):
            raise ValueError(f"Storage: timeout must be seconds in [0.001, 1e6], got {self.timeout!r}")
        if isinstance(self.cache, os.PathLike):
            object.__setattr__(self, "cache", os.fspath(self.cache))
        if self.cache is not None and not (isinstance(self.cache, str) and self.cache):
            raise ValueError(f"Storage: cache must be a folder or None, got {self.cache!r}")
        limit = self.cache_limit
        if limit is not None and not (isinstance(limit, int) and limit >= 1 << 24):
            raise ValueError(f"Storage: cache_limit must be None or at least 16 MiB ({1 << 24} bytes), got {limit!r}")
        if limit is not None and self.cache is None:
            raise ValueError("Storage: cache_limit is for a cache; cache= is its folder")
        if not (isinstance(self.options, Mapping) and all(isinstance(name, str) for name in self.options)):
            raise ValueError("Storage: options must be a mapping from names to values")
        object.__setattr__(self, "options", dict(self.options))

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "options"}
        values["options"] = dict.fromkeys(self.options, "***")
        return f"Storage({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    def __hash__(self) -> int:
        return hash((self.in_flight, self.timeout, self.retries, self.cache, *sorted(self.options)))


def given_storage(storage: Storage | None, caller: str) -> Storage:
    """What a user gave as ``storage=``, or the default.

    Raises:
        ValueError: it is something else, or has a cache that cannot be.
    """
    if not isinstance(storage, Storage | None):
        raise ValueError(f"{caller}: storage must be dv.Storage(...), got {storage!r}")
    if storage is not None and storage.cache is not None:
        path = Path(storage.cache).absolute()
        above = next(part for part in (path, *path.parents) if os.path.exists(part))  # noqa: PTH110 (asks no leave)
        if not above.is_dir():
            raise ValueError(f"{caller}: Storage(cache={storage.cache!r}) must be a folder, and {above} is none")
        if above != path and not os.access(above, os.W_OK | os.X_OK):
            raise ValueError(
                f"{caller}: Storage(cache={storage.cache!r}) cannot be made: {above} may not be written to"
            )
    return storage or Storage()


def make_store(base: str, storage: Storage) -> Any:
    """obstore's store of a bucket or server.

    Raises:
        ValueError: an option is not known, or does not suit.
    """
    from obstore.exceptions import BaseError
    from obstore.store import HTTPStore, from_url

    config = {name: value for name, value in storage.options.items() if name.lower() not in _CLIENT_OPTIONS}
    limit = timedelta(seconds=storage.timeout)
    once = limit / (_SHARE_OF_TIMEOUT if storage.retries else 1)
    client: Any = {
        "timeout": limit,
        "connect_timeout": once,
        "read_timeout": once,
        **{name.lower(): value for name, value in storage.options.items() if name.lower() in _CLIENT_OPTIONS},
    }
    endpoint = next((v for k, v in config.items() if "endpoint" in k.lower()), environ.get("AWS_ENDPOINT_URL", ""))
    if str(endpoint).startswith("http://") or base.lower().startswith("http://"):
        client.setdefault("allow_http", True)
    retry: Any = {
        "max_retries": storage.retries,
        "retry_timeout": limit,
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": limit / 4, "base": 2},
    }
    try:
        if base.lower().startswith("http"):
            return HTTPStore.from_url(base, client_options=client, retry_config=retry)
        provider = _find_credentials(base, config)
        given: Any = {} if provider is None else {"credential_provider": provider}
        return from_url(base, config=config, client_options=client, retry_config=retry, **given)  # type: ignore
    except (BaseError, TypeError, ValueError) as error:
        text = hide_secrets(str(error).partition("\n")[0])
        for value in storage.options.values():
            text = text.replace(str(value), "***") if len(str(value)) >= 8 else text
        raise ValueError(f"Storage: {base} cannot be opened with these options: {text}") from None


def _find_credentials(base: str, config: Mapping[str, Any]) -> Any:
    """What boto3 finds in the profiles of ~/.aws, where obstore does not look; None if there is nothing to find."""
    told = {name.lower().removeprefix("aws_") for name in (*config, *environ) if config.get(name, environ.get(name))}
    if not base.lower().startswith("s3") or told & {
        "access_key_id", "skip_signature", "web_identity_token_file", "container_credentials_relative_uri",
        "container_credentials_full_uri",
    }:  # fmt: skip
        return None
    if find_spec("boto3") is None:
        return None
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = boto3.Session()
    return None if session.get_credentials() is None else Boto3CredentialProvider(session)
