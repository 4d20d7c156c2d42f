"""From settings to the lake that an archiver writes to. Loads pyarrow, and pyiceberg only where it is asked for."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from pydantic import SecretStr

from tidemill.archiver.ports import Lake
from tidemill.domain.errors import UsageError
from tidemill.lakehouse.parquet import LakeWriter
from tidemill.runtime.threads import in_thread
from tidemill.settings import LakeSettings, Settings


async def open_lake(settings: Settings) -> Lake:
    """Return the lake. Raises `UsageError` for settings that are missing, `Unavailable` for the catalog."""
    lake = settings.lake
    if lake.root is None:
        raise UsageError("TIDEMILL_LAKE_ROOT is not set: set it to the folder or URL that copies go to")
    if lake.format == "parquet":
        return LakeWriter(lake.root, _options(lake.options))
    return await in_thread(partial(_open_iceberg, lake, lake.root), server="lake", timeout_s=lake.timeout_s)


def _open_iceberg(lake: LakeSettings, root: str) -> Lake:
    catalog = catalog_of(lake)
    from tidemill.lakehouse.iceberg import IcebergLake  # noqa: PLC0415  an extra, which is there by now

    return IcebergLake(catalog, root, _options(lake.options))


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


def _options(text: SecretStr | None) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(text.get_secret_value()) if text else {}
    return parsed
