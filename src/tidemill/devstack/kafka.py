"""Apache Kafka as one KRaft node: the same jars as the official distribution, run by the JVM."""

from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM
from uuid import uuid4

from tidemill.devstack import java
from tidemill.devstack.cache import Part
from tidemill.devstack.plan import ServerPlan
from tidemill.devstack.probes import kafka_answers
from tidemill.devstack.shell import run

VERSION = "4.3.0"
_POM = java.pom(
    [
        java.dependency("org.apache.kafka", "kafka_2.13", VERSION),
        # brings the command-line tools (console consumer, topics), which people and tests use
        java.dependency("org.apache.kafka", "kafka-tools", VERSION),
    ]
)
PART = Part("kafka", VERSION, _POM)

# a killed broker may not come back before its session has expired: 9 s by default
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

    def initialise(log: Path) -> None:
        values = {"kafka": ports["kafka"], "controller": ports["controller"]}
        properties.write_text(_PROPERTIES.format(logs=home / "data", **values))
        logging.write_text(_LOGGING)
        if (home / "data").exists():
            return
        tool = tool_command(folder, "kafka.tools.StorageTool")
        identity = ["format", "-t", _cluster_id(), "-c", str(properties)]
        run([*tool, *identity], what="formatting Kafka's storage", log=log, folder=home)

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


def _cluster_id() -> str:
    # Kafka wants 16 bytes in URL-safe base64 without padding, and none that begins with a hyphen
    return "t" + uuid4().hex[:21]


def _java() -> str:
    return java.java_command() or "java"
