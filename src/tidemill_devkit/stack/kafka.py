"""Apache Kafka as one KRaft node: the same jars as the official distribution, run by the JVM."""

import shutil
from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM
from uuid import uuid4

from tidemill_devkit.stack import java
from tidemill_devkit.stack.cache import Part
from tidemill_devkit.stack.plan import ServerPlan
from tidemill_devkit.stack.probes import kafka_answers
from tidemill_devkit.stack.shell import run

VERSION = "4.3.0"
_POM = java.pom(
    [
        java.dependency("org.apache.kafka", "kafka_2.13", VERSION),
        # brings the command-line tools (console consumer, topics), which people and tests use
        java.dependency("org.apache.kafka", "kafka-tools", VERSION),
    ]
)
_BLANK = "blank"
PART = Part("kafka", VERSION, f"{_POM}\n{_BLANK}")

# - a killed broker may not come back before its session has expired: 9 s by default
# - the cleaner takes its buffer at its start, 128 MB by default
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{kafka}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={logs}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=10
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=10
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
log.cleaner.dedupe.buffer.size=8388608
"""

_META = """\
version=1
cluster.id={cluster}
directory.id={directory}
node.id=1
"""

_LOGGING = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %m (%c)%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
logger.start.name=kafka.server.KafkaRaftServer
logger.start.level=info
"""


def build(folder: Path, log: Path, on_line: Callable[[str], None]) -> None:
    """Fetch Apache Kafka's jars into `folder`; the programs' output goes to `log`, line by line to `on_line`."""
    java.fetch(_POM, folder / "libs", what="fetching Apache Kafka", log=log, on_line=on_line)
    _format_blank(folder, log)


def _format_blank(folder: Path, log: Path) -> None:
    """Keep an empty storage for all stacks to copy: Kafka's own tool takes as long as half a broker's start."""
    blank = folder / _BLANK
    properties = folder / "blank.properties"
    properties.write_text(_PROPERTIES.format(logs=blank, kafka=9092, controller=9093))
    tool = tool_command(folder, "kafka.tools.StorageTool")
    identity = ["format", "-t", _new_id(), "-c", str(properties)]
    run([*tool, *identity], what="formatting Kafka's storage", log=log, folder=folder)
    properties.unlink()


def tool_command(folder: Path, main_class: str) -> list[str]:
    """How to run one of Kafka's own tools, e.g. `org.apache.kafka.tools.consumer.ConsoleConsumer`."""
    # short-lived: the optimising compiler would cost more than it saves
    return [_java(), java.NO_OPTIMISING, "-cp", f"{folder / 'libs'}/*", main_class]


def plan(
    folder: Path, home: Path, ports: dict[str, int], jvm_options: Callable[[], list[str]] = list
) -> ServerPlan:
    """The broker from `folder` with its data in `home`, on the ports `kafka` and `controller`."""
    properties = home / "server.properties"
    logging = home / "log4j2.properties"

    def initialise(_log: Path) -> None:
        values = {"kafka": ports["kafka"], "controller": ports["controller"]}
        properties.write_text(_PROPERTIES.format(logs=home / "data", **values))
        logging.write_text(_LOGGING)
        if (home / "data").exists():
            return
        shutil.copytree(folder / _BLANK, home / "data")
        (home / "data/meta.properties").write_text(_META.format(cluster=_new_id(), directory=_new_id()))

    options = ["-Xms256m", "-Xmx1g", f"-Dlog4j2.configurationFile={logging}"]
    classes = ["-cp", f"{folder / 'libs'}/*", "kafka.Kafka", str(properties)]
    return ServerPlan(
        home=home,
        initialise=initialise,
        command=lambda: [_java(), *jvm_options(), *options, *classes],
        answers=lambda _pid: kafka_answers("127.0.0.1", ports["kafka"]),
        stop_signal=SIGTERM,
        address=f"127.0.0.1:{ports['kafka']}",
    )


def _new_id() -> str:
    """Return an id of a cluster or of a folder of data."""
    # Kafka wants 16 bytes in URL-safe base64 without padding, and none that begins with a hyphen
    return "t" + uuid4().hex[:21]


def _java() -> str:
    return java.java_command() or "java"
