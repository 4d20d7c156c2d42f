"""Apicurio Registry, whose Confluent-compatible API gives Avro schemas their ids.

The build for "all" storages keeps its tables in an H2 database in memory. Pointed at a file instead,
it keeps its ids across restarts: ids that started again would be wrong for the records in Kafka.
"""

import tarfile
from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM

from tidemill_devkit.stack import java
from tidemill_devkit.stack.cache import Part
from tidemill_devkit.stack.plan import ServerPlan
from tidemill_devkit.stack.probes import http_answers

VERSION = "2.6.13.Final"
API_PATH = "/apis/ccompat/v7"
_RUNNER = f"apicurio-registry-app-{VERSION}-runner.jar"
_POM = java.pom(
    [
        java.dependency(
            "io.apicurio",
            "apicurio-registry-app",
            VERSION,
            # the archive holds everything: without the exclusion Maven fetches it a second time
            "<type>tar.gz</type><classifier>all</classifier><exclusions><exclusion>"
            "<groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>",
        )
    ]
)
PART = Part("apicurio-registry", VERSION, _POM)


def build(folder: Path, log: Path, on_line: Callable[[str], None]) -> None:
    """Fetch the registry into `folder`; the programs' output goes to `log`, line by line to `on_line`."""
    archives = folder / "archives"
    java.fetch(_POM, archives, what="fetching the schema registry", log=log, on_line=on_line)
    on_line("unpacking")
    (archive,) = archives.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        # an attribute, not an argument: Debian 12's Python 3.11.2 knows neither, and refuses the argument
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(folder / "app")  # noqa: S202  the line above sets its filter
    archive.unlink()


def plan(
    folder: Path, home: Path, ports: dict[str, int], jvm_options: Callable[[], list[str]] = list
) -> ServerPlan:
    """The registry from `folder` with its data in `home`, on the port `registry`."""
    address = f"http://127.0.0.1:{ports['registry']}{API_PATH}"
    # WRITE_DELAY=0: an id that was handed out must survive the registry being killed
    database = f"jdbc:h2:file:{home / 'registry'};WRITE_DELAY=0;DB_CLOSE_ON_EXIT=FALSE"
    settings = {
        "quarkus.http.host": "127.0.0.1",
        "quarkus.http.port": str(ports["registry"]),
        "quarkus.datasource.jdbc.url": database,
        "quarkus.datasource.jdbc.initial-size": "2",
        "quarkus.datasource.jdbc.min-size": "2",
    }
    # it serves a handful of requests: the optimising compiler would only make its start dearer
    options = [
        "-Xmx512m",
        java.NO_OPTIMISING,
        "-XX:+UseSerialGC",
        *(f"-D{name}={value}" for name, value in settings.items()),
    ]
    return ServerPlan(
        home=home,
        initialise=lambda _log: None,
        command=lambda: [
            java.java_command() or "java",
            *jvm_options(),
            *options,
            "-jar",
            str(folder / "app" / _RUNNER),
        ],
        answers=lambda _pid: http_answers(f"{address}/subjects"),
        stop_signal=SIGTERM,
        address=address,
    )
