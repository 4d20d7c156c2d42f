"""migrate, schemas, topics: each may be repeated, and refuses what would break what exists."""

import json
from pathlib import Path

from confluent_kafka.admin import AdminClient

from tests.support.clients.clients import Client
from tests.support.servers.installation import Installation, installation_on
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill.app.context_loader import ALL, load_contexts
from tidemill_devkit.stack import Stack


def test_migrations_go_up_down_and_up_again(installation: Installation) -> None:
    assert installation("migrate").out == "The database is up to date.\n"
    undone = installation("migrate", "--down", "market_data@base", "--yes", "--json").json()
    revisions = ["market_data_0003", "market_data_0002", "market_data_0001"]
    assert [(step["revision"], step["direction"]) for step in undone] == [
        (each, "down") for each in revisions
    ]
    known = {each["revision"]: each for each in installation("migrate", "--status", "--json").json()}
    assert known["market_data_0001"]["applied_at"] is None
    assert known["core_0001"]["applied_at"] is not None
    told = installation("topics", "create", expect=2)
    listed = ", ".join(reversed(revisions))
    assert told.err == f"Error: the database lacks the migrations {listed}: run `tidemill migrate`\n"
    again = installation("migrate")
    assert again.out.startswith("applied market_data_0001")
    registers = (
        "tidemill schemas register, then " if "TIDEMILL_REGISTRY_URL" in installation.environment else ""
    )
    assert again.err == (
        f"Next: {registers}tidemill topics create\n"
        "A process that runs already knows a new context once it is restarted.\n"
    )


def test_the_sql_of_all_migrations_can_be_read_without_a_database(installation: Installation) -> None:
    nowhere = {"TIDEMILL_DATABASE_URL": "postgresql://u@127.0.0.1:1/x", "TIDEMILL_CONTEXTS": "all"}
    told = Installation(dict(installation.environment) | nowhere, installation.folder)("migrate", "--sql")
    assert told.err == ""
    assert "create table public.market_data (" in told.out
    assert (
        told.out.count("BEGIN;")
        == told.out.count("COMMIT;")
        == len(installation("migrate", "--status", "--json").json())
    )


def test_a_deployment_has_the_tables_topics_and_lanes_of_its_contexts_alone(
    stack: Stack, empty_database: str, topic_prefix: str, tmp_path: Path
) -> None:
    all_of_them = installation_on(stack, empty_database, topic_prefix, tmp_path)
    one = Installation(
        dict(all_of_them.environment) | {"TIDEMILL_CONTEXTS": "connector-profiles"}, all_of_them.folder
    )
    assert "public.market_data" not in one("migrate", "--sql").out
    steps = {each["revision"].rpartition("_")[0] for each in one("migrate", "--json").json()}
    assert steps == {"core", "connector_profiles"}
    assert one.fetch("select to_regclass('public.market_data')")[0][0] is None
    assert {each["service_name"] for each in one("migrate", "--status", "--json").json()} == steps
    one("schemas", "register")
    assert [each["aggregate"] for each in one("topics", "create", "--json").json()] == ["connector-profiles"]
    assert aggregates(one) == {"connector-profiles"}
    assert one.fetch("select distinct aggregate from tm.lane") == [("connector-profiles",)]
    one("topics", "check")

    assert "lacks the migrations market_data_0001" in all_of_them("topics", "create", expect=2).err
    steps = {each["revision"] for each in all_of_them("migrate", "--json").json()}
    assert steps == {"market_data_0001", "market_data_0002", "market_data_0003"}
    all_of_them("topics", "create")
    assert aggregates(one) == {"archival", "connector-profiles", "market-data"}
    assert one("migrate", "--json").json() == [], "what was chosen before does not matter"
    one("topics", "check")
    for verb in ("status", "audit"):
        assert "market-data" in one(verb).out, "what is left of it is seen"
    with one.serving():
        eventually_blocking(lambda: members(one, "connector-profiles"), what="its group to form")
        assert members(one, "market-data") == members(one, "archival") == []
    one("migrate", "--down", "market_data@base", "--yes")
    assert one.fetch("select to_regclass('public.market_data')")[0][0] is None


def members(installation: Installation, aggregate: str) -> list[str]:
    """The members of the consumer group that takes an aggregate's commands."""
    client = Client(installation.environment["TIDEMILL_KAFKA_BOOTSTRAP"])
    return client.members(f"{installation.prefix}.{aggregate}.commands.v1")


def aggregates(installation: Installation) -> set[str]:
    """The aggregates that have topics; replies to HTTP are of all."""
    admin = AdminClient({"bootstrap.servers": installation.environment["TIDEMILL_KAFKA_BOOTSTRAP"]})
    names = admin.list_topics(timeout=HANGING_S).topics
    prefix = f"{installation.prefix}."
    own = {name.removeprefix(prefix).partition(".")[0] for name in names if name.startswith(prefix)}
    return own - {"replies"}


def test_a_context_that_does_not_exist_is_refused_by_name(installation: Installation) -> None:
    other = Installation(dict(installation.environment) | {"TIDEMILL_CONTEXTS": "tides"}, installation.folder)
    assert other("migrate", expect=2).err == (
        "Error: TIDEMILL_CONTEXTS: unknown context 'tides'; "
        f"expected all, or some of {', '.join(context.name for context in load_contexts(ALL))}\n"
    )


def test_undoing_asks_before_data_is_deleted(installation: Installation) -> None:
    installation("migrate", "--down", "market_data@base", stdin="n\n", expect=1)
    assert installation("migrate", "--json").json() == []


def test_topics_are_created_once_with_their_lanes_and_a_limit_that_is_too_low_is_raised(
    installation: Installation,
) -> None:
    first = {each["aggregate"]: each for each in installation("topics", "create", "--json").json()}
    assert first["market-data"]["partitions"] == 2
    assert len(first["market-data"]["new_topics"]) == 4
    assert first["market-data"]["new_lanes"] == 2
    assert (first["archival"]["partitions"], first["archival"]["new_lanes"]) == (
        1,
        1,
    )  # whatever the setting says
    second = installation("topics", "create", "--json").json()
    assert all(each["new_topics"] == [] and each["new_lanes"] == 0 for each in second)
    assert installation("topics", "check").out == "Every topic is as it should be.\n"
    (row,) = installation.fetch(
        "select count(*) as rows, bool_and(reason = 'created' and timeline = 1 and chain = 0) as begun from tm.batch "
    )
    assert (row["rows"], row["begun"]) == (5, True)
    (hints,) = installation.fetch("select count(*), sum(position + sequence)::int from tm.published")
    assert tuple(hints) == (5, 0)
    topic = f"{installation.prefix}.market-data.commands.v1"
    Client(installation.environment["TIDEMILL_KAFKA_BOOTSTRAP"]).configure(
        topic, "max.message.bytes", "262144"
    )
    assert installation("topics", "check", expect=1).out == (
        f"{topic}: max.message.bytes is 262144, at least 1048588 is needed: run `tidemill topics create`, which raises "
        "it\n"
    )
    assert (
        f"{topic}: raised max.message.bytes from 262144 to 1048588\n" in installation("topics", "create").err
    )
    assert installation("topics", "check").out == "Every topic is as it should be.\n"


def test_the_number_of_lanes_is_fixed(prepared: Installation) -> None:
    more = Installation(dict(prepared.environment) | {"TIDEMILL_TOPICS_PARTITIONS": "3"}, prepared.folder)
    told = more("topics", "create", expect=2)
    assert told.err.startswith(
        "Error: TIDEMILL_TOPICS_PARTITIONS=3: connector-profiles was created with 2 lanes"
    )
    unset = dict(prepared.environment)
    del unset["TIDEMILL_TOPICS_PARTITIONS"]
    again = Installation(unset, prepared.folder)("topics", "create", "--json").json()
    assert {each["aggregate"]: each["partitions"] for each in again} == {
        "connector-profiles": 2,
        "market-data": 2,
        "archival": 1,
    }


def test_topics_with_another_number_of_partitions_are_refused(
    installation: Installation, prepared: Installation
) -> None:
    prepared.execute("truncate tm.lane restart identity cascade", "delete from tm.batch")
    more = Installation(dict(prepared.environment) | {"TIDEMILL_TOPICS_PARTITIONS": "3"}, prepared.folder)
    told = more("topics", "create", expect=1)
    assert "has 2 partitions instead of 3" in told.err
    assert prepared.fetch("select from tm.lane") == []


def test_lanes_belong_to_the_topics_they_were_created_with(prepared: Installation) -> None:
    other = Installation(
        dict(prepared.environment) | {"TIDEMILL_TOPICS_PREFIX": prepared.prefix + "x"}, prepared.folder
    )
    told = other("topics", "create", expect=1)
    assert "belong to the topic" in told.err
    assert "TIDEMILL_TOPICS_PREFIX" in told.err


def test_a_missing_topic_is_found(installation: Installation) -> None:
    told = installation("topics", "check", expect=1)
    assert f"{installation.prefix}.market-data.commands.v1 does not exist" in told.out
    findings = json.loads(installation("topics", "check", "--json", expect=1).out)
    assert {finding["setting"] for finding in findings} == {"topic"}


def test_schemas_keep_the_contract_and_may_be_registered_twice(installation: Installation) -> None:
    assert installation("schemas", "check").out == "Every schema keeps the contract.\n"
    first = installation("schemas", "register", "--json").json()
    assert installation("schemas", "register", "--json").json() == first
    assert len(first) >= 10


def test_without_a_registry_there_is_nothing_to_register(installation: Installation) -> None:
    without = dict(installation.environment)
    without.pop("TIDEMILL_REGISTRY_URL")
    told = Installation(without, installation.folder)("schemas", "register", expect=2)
    assert told.err.startswith("Error: TIDEMILL_REGISTRY_URL is not set")


def test_a_schema_that_exists_is_not_drafted_again(installation: Installation) -> None:
    told = installation("schemas", "new", "RecordMarketData", expect=2)
    assert "exists: change it by hand" in told.err
    told = installation("schemas", "new", "Nonsense", expect=2)
    assert told.err.startswith("Error: no context declares Nonsense")


def test_a_process_does_not_start_on_what_is_not_prepared(installation: Installation) -> None:
    told = installation("serve", "all", expect=1)
    assert "has no lanes in this database: run `tidemill topics create`" in told.err


def test_the_tables_of_every_built_in_context_are_as_declared(installation: Installation) -> None:
    environment = {**installation.environment, "TIDEMILL_CONTEXTS": "all"}
    every = Installation(environment, installation.folder)
    assert every("migrate", "check", "--json").json() == []
