"""Programs of others that speak Kafka, for people and tests: kcat, and Kafka's own console programs."""

import shutil

from tidemill_devkit.stack import debian, kafka
from tidemill_devkit.stack.cache import cache_folder
from tidemill_devkit.stack.errors import MissingPrerequisiteError
from tidemill_devkit.stack.java import java_command


def kcat_command() -> list[str]:
    """How to run kcat: the host's, else the one in the private Debian root (there once `up` has run)."""
    if shutil.which("kcat") is not None:
        return ["kcat"]
    cache = cache_folder()
    if debian.PART.is_installed(cache):
        return [*debian.command_prefix(debian.PART.folder(cache) / "root"), "kcat"]
    raise MissingPrerequisiteError(
        ["kcat: not on the path, and no private Debian root in the cache"],
        ["install the package kcat", "bring up a native stack, whose private Debian root has it"],
    )


def console_consumer_command() -> list[str]:
    """How to run Kafka's console consumer from the fetched jars; arguments follow."""
    return _console_tool("consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer")


def console_producer_command() -> list[str]:
    """How to run Kafka's console producer from the fetched jars; arguments follow."""
    return _console_tool("producer", "org.apache.kafka.tools.ConsoleProducer")


def _console_tool(name: str, entry: str) -> list[str]:
    cache = cache_folder()
    if java_command() is None or not kafka.PART.is_installed(cache):
        raise MissingPrerequisiteError(
            [f"Kafka's console {name}: no JVM, or no Kafka jars in the cache"],
            ["install a JDK 17 or newer and bring up a native stack once"],
        )
    return kafka.tool_command(kafka.PART.folder(cache), entry)
