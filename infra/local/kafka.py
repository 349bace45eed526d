"""Kafka as an embedded service of one or three brokers: its configuration, and whether it is ready."""

from __future__ import annotations

import base64
import shutil
import subprocess
import uuid
from functools import partial
from pathlib import Path
from string import Template

from infra.contracts.errors import UserError
from infra.local.bootstrap import java_command
from infra.local.places import Places
from infra.local.ports import HOST, free_ports, is_open
from infra.local.service import Node, Service
from infra.settings import Settings
from infra.streams.brokers import ready_brokers
from infra.streams.errors import KafkaUnavailableError

NAME = "kafka"
START_WITHIN_S = 90.0
ROOM = 64 * 1024  # above 1 MiB, so that a value of 1 MiB passes with its key and headers

# Offsets and transactional ids stay for a year, because a home may rest for longer than Kafka's week.
PROPERTIES = Template("""\
process.roles=broker,controller
node.id=$node
controller.quorum.voters=$voters
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://$host:$port,CONTROLLER://$host:$controller_port
advertised.listeners=PLAINTEXT://$host:$port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=$data
default.replication.factor=$replicas
min.insync.replicas=$in_sync
offsets.topic.replication.factor=$replicas
offsets.topic.num.partitions=8
offsets.retention.minutes=525600
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$in_sync
transaction.state.log.num.partitions=8
transactional.id.expiration.ms=2147483647
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$in_sync
auto.create.topics.enable=false
message.max.bytes=$message_bytes
replica.fetch.max.bytes=$message_bytes
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=6000
log.cleaner.dedupe.buffer.size=33554432
""")

LOG4J = """\
status=WARN
shutdownHook=disable
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{yyyy-MM-dd'T'HH:mm:ss.SSS}{UTC}Z %p %c{1}: %m%n
rootLogger.level=WARN
rootLogger.appenderRef.out.ref=out
"""


def name(brokers: int) -> str:
    """The service's name, which is its data folder's too: kafka-1 or kafka-3."""
    return f"{NAME}-{brokers}"


def choose_ports(brokers: int) -> tuple[int, ...]:
    """A free port for each broker, then one for each controller."""
    return free_ports(2 * brokers)


def service(settings: Settings, ports: tuple[int, ...]) -> Service:
    """The Kafka cluster of one home on these ports: half of them for brokers, half for controllers."""
    brokers = len(ports) // 2
    places = Places(settings.home)
    endpoint = ",".join(f"{HOST}:{port}" for port in ports[:brokers])
    config = places.run / name(brokers)
    return Service(
        name=NAME,
        endpoint=endpoint,
        ports=ports,
        data=places.data(name(brokers)),
        nodes=tuple(_node(settings, config, places, number) for number in range(1, brokers + 1)),
        prepare=partial(prepare, settings, ports),
        check=partial(check, endpoint, ports[:brokers]),
        start_within_s=START_WITHIN_S,
    )


def _node(settings: Settings, config: Path, places: Places, number: int) -> Node:
    # The optimising compiler would take a core for half a minute, and the broker has enough to do without.
    compiler = "-XX:TieredStopAtLevel=1"
    arguments = (compiler, "-Xms128m", "-Xmx512m", f"-Dkafka.logs.dir={places.home / 'logs'}", "kafka.Kafka")
    command = _java(settings, config, *arguments, str(config / f"node-{number}.properties"))
    label = f"{config.name}-node-{number}"
    return Node(label, command, places.run, places.log(label))


def _java(settings: Settings, config: Path, *arguments: str) -> tuple[str, ...]:
    classpath = f"{settings.jars / 'kafka'}/*"
    logging = f"-Dlog4j2.configurationFile={config / 'log4j2.properties'}"
    network = "-Djava.net.preferIPv4Stack=true"
    return (java_command(), "-cp", classpath, logging, network, *arguments)


def prepare(settings: Settings, ports: tuple[int, ...]) -> None:
    """Write the configuration, and format the data folders that are new."""
    _check_installed(settings)
    places = Places(settings.home)
    brokers = len(ports) // 2
    config, data = places.run / name(brokers), places.data(name(brokers))
    for folder in (config, data):
        folder.mkdir(parents=True, exist_ok=True)
    (config / "log4j2.properties").write_text(LOG4J)
    cluster = _cluster_id(data / "cluster-id")
    for number in range(1, brokers + 1):
        path = config / f"node-{number}.properties"
        path.write_text(properties(number, ports, data / f"node-{number}"))
        if not (data / f"node-{number}" / "meta.properties").exists():
            tool = ("-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format")
            _format(_java(settings, config, *tool, "-t", cluster, "-c", str(path)))


def properties(number: int, ports: tuple[int, ...], data: Path) -> str:
    """The configuration of one node (numbered from 1); replicated once or, of three, to two at least."""
    brokers = len(ports) // 2
    controllers = ports[brokers:]
    return PROPERTIES.substitute(
        node=number,
        voters=",".join(f"{node}@{HOST}:{port}" for node, port in enumerate(controllers, start=1)),
        host=HOST,
        port=ports[number - 1],
        controller_port=controllers[number - 1],
        data=data,
        replicas=brokers,
        in_sync=1 if brokers == 1 else 2,
        message_bytes=1024 * 1024 + ROOM,
    )


def check(endpoint: str, ports: tuple[int, ...]) -> str:
    """Empty when every broker is registered and serves, otherwise what is missing."""
    closed = [port for port in ports if not is_open(port)]
    if closed:
        return f"port {closed[0]} is not open"
    try:
        ready = ready_brokers(endpoint, timeout_s=2)
    except KafkaUnavailableError as error:
        return str(error)
    return "" if ready == len(ports) else f"{ready} of {len(ports)} brokers are registered"


def _check_installed(settings: Settings) -> None:
    if not any((settings.jars / "kafka").glob("kafka_*.jar")):
        raise UserError(f"no Kafka in {settings.jars / 'kafka'}; run `make setup`")
    if shutil.which(java_command()) is None:
        raise UserError("no Java found; install Java 17 or later, or set JAVA_HOME")


def _cluster_id(path: Path) -> str:
    """The id that all nodes of a cluster are formatted with, made once."""
    if not path.exists():
        ids = (base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=") for _ in iter(int, 1))
        path.write_text(next(text for text in ids if text[0] != "-"))  # Kafka's tool would take an option
    return path.read_text()


def _format(command: tuple[str, ...]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"Kafka's data folder can't be made: {(done.stderr or done.stdout).strip()}")
