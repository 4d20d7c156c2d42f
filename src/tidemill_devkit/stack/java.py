"""The Java side: finding a JVM, and fetching artifacts with the host's own Maven configuration."""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from xml.sax.saxutils import escape

from tidemill_devkit.stack.shell import output, run

OLDEST_JAVA = 17
DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
NO_OPTIMISING = "-XX:TieredStopAtLevel=1"
"""Of what lives for minutes only, the optimising compiler takes more than it gives: a third of a broker's start."""


def java_command() -> str | None:
    """The path of a JVM: the one of JAVA_HOME, else the one on the path."""
    home = os.environ.get("JAVA_HOME")
    if home and (Path(home) / "bin/java").is_file():
        return str(Path(home) / "bin/java")
    return shutil.which("java")


def major_version(version_text: str) -> int:
    """17 from the text that `java -version` prints; 0 if it cannot be read ("1.8" is 8)."""
    found = re.search(r'version "(?:1\.)?(\d+)', version_text)
    return int(found.group(1)) if found else 0


@cache
def version_text(java: str) -> str:
    """What `java -version` prints, empty if it cannot be run."""
    return output([java, "-version"]) or ""


def missing_for_running() -> list[str]:
    """What is missing to run servers on the JVM."""
    java = java_command()
    if java is None:
        return [f"a JDK or JRE {OLDEST_JAVA} or newer: no `java` on the path and no JAVA_HOME"]
    version = major_version(version_text(java))
    if version < OLDEST_JAVA:
        return [f"a JDK or JRE {OLDEST_JAVA} or newer: {java} is version {version}"]
    return []


def missing_for_installing() -> list[str]:
    """What is missing to fetch Java parts that are not in the cache."""
    if shutil.which("mvn") is None:
        return ["Maven: no `mvn` on the path (it fetches Kafka and the schema registry, once)"]
    return []


def pom(dependencies: Sequence[str]) -> str:
    """A Maven project that needs exactly `dependencies`, each an XML fragment."""
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0">\n'
        "  <modelVersion>4.0.0</modelVersion>\n"
        "  <groupId>tidemill_devkit.stack</groupId>\n"
        "  <artifactId>parts</artifactId>\n"
        "  <version>1</version>\n"
        "  <packaging>pom</packaging>\n"
        "  <dependencies>\n" + "\n".join(dependencies) + "\n  </dependencies>\n</project>\n"
    )


def dependency(group: str, artifact: str, version: str, extra: str = "") -> str:
    """One dependency for `pom`; `extra` is XML that goes inside it."""
    fields = {"groupId": group, "artifactId": artifact, "version": version}
    inner = "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in fields.items())
    return f"    <dependency>{inner}{extra}</dependency>"


def fetch(pom_text: str, into: Path, *, what: str, log: Path, on_line: Callable[[str], None]) -> None:
    """Copy the jars (or archives) that `pom_text` names into the folder `into`.

    Maven's own repository is a temporary folder beside it: nothing outside the cache changes, and
    two installations at once cannot disturb each other.
    """
    work = into.with_name(into.name + ".maven")
    work.mkdir(parents=True)
    (work / "pom.xml").write_text(pom_text)
    command = [
        *("mvn", "--batch-mode", "--no-transfer-progress", "--file", str(work / "pom.xml")),
        f"-Dmaven.repo.local={work / 'repository'}",
        f"{DEPENDENCY_PLUGIN}:copy-dependencies",
        *("-DincludeScope=runtime", f"-DoutputDirectory={into}"),
    ]
    run(command, what=what, log=log, folder=work, on_line=on_line)
    shutil.rmtree(work)
