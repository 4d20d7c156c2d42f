"""From settings to the lake: what an archiver writes to, and what reads copies back. Loads pyarrow.

pyiceberg is loaded only where it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from pydantic import SecretStr

from tidemill.archiver.ports import Lake
from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import UsageError
from tidemill.lakehouse.copy_reader import LakeCopies, UnregisteredFiles
from tidemill.lakehouse.parquet import LakeWriter
from tidemill.lakehouse.reader import LakeReader
from tidemill.runtime.threads import in_thread
from tidemill.settings import LakeSettings, Settings


async def open_lake(settings: Settings) -> Lake:
    """Return the lake. Raises `UsageError` for settings that are missing, `Unavailable` for the catalog."""
    lake = settings.lake
    if lake.root is None:
        raise UsageError(
            "TIDEMILL_LAKE_ROOT is not set",
            code=ErrorCode.LAKE_NOT_SET,
            setting="TIDEMILL_LAKE_ROOT",
            purpose="that copies go to",
        )
    opening = partial(FORMATS[lake.format], lake, lake.root)
    return await in_thread(opening, server="lake", timeout_s=lake.timeout_s)


def open_copies(settings: Settings) -> LakeCopies:
    """Return the reader of copies, of whatever format. Raises `UsageError` if no root is set."""
    lake = settings.lake
    roots = settings.retention.roots.split() or ([lake.root] if lake.root else [])
    if not roots:
        raise UsageError(
            "TIDEMILL_LAKE_ROOT is not set",
            code=ErrorCode.LAKE_NOT_SET,
            setting="TIDEMILL_LAKE_ROOT",
            purpose="below which copies may be read back",
        )
    return LakeCopies(
        LakeReader(roots, _options(lake.options)), _unregistered_of(lake) if lake.catalog_url else None
    )


def catalog_of(lake: LakeSettings) -> Any:
    """Return pyiceberg's catalog of the lake. Raises `UsageError` if none is named, `Unavailable`."""
    try:
        from tidemill.lakehouse.iceberg import open_catalog  # noqa: PLC0415  an extra, for those who use it
    except ModuleNotFoundError as error:
        raise UsageError(
            f"an Iceberg catalog needs {error.name}: pip install 'tidemill[iceberg]', "
            "or leave TIDEMILL_LAKE_FORMAT and TIDEMILL_LAKE_CATALOG_URL out"
        ) from error
    if lake.catalog_url is None or lake.root is None:
        raise UsageError("TIDEMILL_LAKE_CATALOG_URL is not set: Iceberg tables need a catalog")
    return open_catalog(
        lake.catalog_url.get_secret_value(),
        lake.root,
        schema=lake.catalog_schema,
        options=_options(lake.catalog_options),
    )


def _open_parquet(lake: LakeSettings, root: str) -> Lake:
    return LakeWriter(root, _options(lake.options))


def _open_iceberg(lake: LakeSettings, root: str) -> Lake:
    catalog = catalog_of(lake)
    from tidemill.lakehouse.iceberg import IcebergLake  # noqa: PLC0415  an extra, which is there by now

    return IcebergLake(catalog, root, _options(lake.options))


FORMATS: Final[Mapping[str, Callable[[LakeSettings, str], Lake]]] = {
    "parquet": _open_parquet,
    "iceberg": _open_iceberg,
}
"""Format, as `TIDEMILL_LAKE_FORMAT` names it -> what opens a lake of it below a root; it may wait for its catalog."""


def _unregistered_of(lake: LakeSettings) -> UnregisteredFiles:
    catalog = catalog_of(lake)
    from tidemill.lakehouse.iceberg import unregistered  # noqa: PLC0415  an extra, which is there by now

    return partial(unregistered, catalog)


def _options(text: SecretStr | None) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(text.get_secret_value()) if text else {}
    return parsed
