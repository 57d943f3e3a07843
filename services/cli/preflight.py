"""What can be known to fail before anything is started: Java, the disk, Kafka's jars."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from services.cli.failures import StackFailure
from services.cli.places import KAFKA_JARS, LOCAL
from services.shared.settings import PREFIX
from services.shared.table_places import StorageLost, list_tables

OLDEST_JAVA = 17
LEAST_FREE_BYTES = 1024**3
MAVEN_TIMEOUT_S = 900


def find_java() -> str:
    """Java's path; JAVA_HOME goes first. Raises StackFailure when there is none, or one too old for Kafka 4."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if not java or not shutil.which(java):
        raise StackFailure(
            f"Java {OLDEST_JAVA} or later is needed for Kafka and was not found; install a JRE, or set PENSTOCK_KAFKA_BOOTSTRAP"
        )
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = parse_java_version(said)
    if version is None or version < OLDEST_JAVA:
        raise StackFailure(f"Java {OLDEST_JAVA} or later is needed for Kafka; {java} is {version or 'of an unknown version'}")
    return java


def parse_java_version(said: str) -> int | None:
    """Major version in what `java -version` prints; Java 8 and older call themselves 1.x."""
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found.group(1)) if found else None


def require_disk(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        raise StackFailure(f"the disk of {folder} is nearly full: {free // 1024**2} MiB are free, and at least 1024 are needed")


def require_storage(tables: str) -> None:
    """Raises StackFailure where tables are to lie in a bucket that does not answer, or not us."""
    try:
        list_tables(tables)
    except StorageLost as lost:
        raise StackFailure(f"{PREFIX}TABLES_LOCATION: {lost}") from lost


def has_kafka_jars() -> bool:
    return all(any(KAFKA_JARS.glob(jar)) for jar in ("kafka_*.jar", "kafka-tools-[0-9]*.jar"))


def fetch_kafka_jars() -> None:
    """Let Maven fetch Kafka. The folder appears only when it is complete, so a broken fetch is simply repeated."""
    maven = shutil.which("mvn")
    if maven is None:
        raise StackFailure("Kafka's jars are not here yet and Maven (mvn) was not found; install Maven, or set PENSTOCK_KAFKA_BOOTSTRAP")
    partial = KAFKA_JARS.with_name(f"kafka.{os.getpid()}")
    command = [maven, "-q", "-B", "-f", str(LOCAL / "pom.xml"), "dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MAVEN_TIMEOUT_S, check=False)
        if done.returncode:
            said = [line for line in done.stdout.splitlines() if "ERROR" in line] or ["no reason given"]
            raise StackFailure(f"Maven could not fetch Kafka's jars: {said[0]}")
        if not has_kafka_jars():
            shutil.rmtree(KAFKA_JARS, ignore_errors=True)
            partial.rename(KAFKA_JARS)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


if __name__ == "__main__":
    if not has_kafka_jars():
        fetch_kafka_jars()
