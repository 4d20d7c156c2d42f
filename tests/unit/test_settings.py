"""A wrong setting is named, explained in one line, and never shown if it is a secret."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from aiokafka.conn import collect_hosts
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tests.architecture import tree
from tidemill.domain.errors import UsageError
from tidemill.settings import Settings, load, settings_page, variables
from tidemill.settings.variables import variables_of
from tidemill.transport.kafka import KafkaConnection

CANARY = "c4n4ry-s3cr3t"


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TIDEMILL_")]:
        monkeypatch.delenv(name)


def refused(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(f"TIDEMILL_{name}", value)
    with pytest.raises(UsageError) as caught:
        load()
    assert "pydantic" not in str(caught.value)
    return str(caught.value)


def test_without_any_variable_the_defaults_hold() -> None:
    settings = load()
    assert settings.topics.prefix == "tidemill"
    assert settings.commands.batch_size == 2_000
    assert settings.health.host == "127.0.0.1"
    assert settings.outbox.transactional is True


def test_a_variable_is_group_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_KAFKA_BOOTSTRAP", "127.0.0.1:9092,localhost:9093")
    monkeypatch.setenv("TIDEMILL_TOPICS_MAX_COMMAND_BYTES", "2000")
    settings = load()
    assert settings.kafka.servers() == "127.0.0.1:9092,localhost:9093"
    assert settings.topics.max_command_bytes == 2_000


def test_a_setting_may_stand_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert load().contexts is None
    (tmp_path / "tidemill_contexts").write_text("all\n")
    monkeypatch.setenv("TIDEMILL_SECRETS_DIR", str(tmp_path))
    assert load().contexts == "all"
    monkeypatch.setenv("TIDEMILL_CONTEXTS", "market_data,users")
    assert load().contexts == "market_data,users"
    monkeypatch.setenv("TIDEMILL_CONTEXTS", "")
    monkeypatch.delenv("TIDEMILL_SECRETS_DIR")
    assert load().contexts is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("COMMANDS_BATCH_SIZE", "many", "=many: expected a whole number from 1 to 50000"),
        ("COMMANDS_WORKERS", "0", "=0: expected a whole number from 1 to 64"),
        ("COMMANDS_REPLIES", "(", "=(: expected a regular expression"),
        ("OUTBOX_TRANSACTIONAL", "maybe", "=maybe: expected true, false"),
        ("LOG_LEVEL", "loud", "=loud: expected DEBUG, INFO, WARNING, ERROR"),
        ("HEALTH_PORT", "99999", "=99999: expected a whole number from 0 to 65535"),
        ("KAFKA_BOOTSTRAP", "broker", "=broker: expected HOST:PORT or [IPV6]:PORT, or several separated"),
        ("KAFKA_BOOTSTRAP", "::1:9092", "=::1:9092: expected HOST:PORT or [IPV6]:PORT"),
        ("KAFKA_BOOTSTRAP", "a:1,,b:2", "=a:1,,b:2: expected HOST:PORT or [IPV6]:PORT"),
        ("KAFKA_CA_FILE", "/no/such.pem", "=/no/such.pem: expected a file, which must exist"),
        ("RETENTION_AS_OF", "yesterday", "=yesterday: expected a time such as 2026-01-01T00:00:00Z"),
        ("RETENTION_AS_OF", "2026-01-01T00:00:00", "=2026-01-01T00:00:00: expected a time such as"),
        ("REGISTRY_URL", "registry:8081", "=registry:8081: expected http://HOST:PORT/PATH"),
        ("LAKE_ROOT", "lake", "=lake: expected the absolute path of a folder, /..., or a URL such as s3://"),
        ("LAKE_OPTIONS", "[1]", ': expected a JSON object, {"name": "value"}'),
        ("LAKE_FORMAT", "delta", "=delta: expected parquet, iceberg"),
        ("RETENTION_POLICIES", "7", '=7: expected {"schema.table": {"enabled": true'),
        ("ARCHIVER_MAX_BYTES_PER_SECOND", "0", "=0: expected a whole number from 1"),
        ("TOPICS_PREFIX", "Tide mill", "=Tide mill: expected lower-case words"),
        (
            "DATABASE_URL",
            "mysql://a:b@localhost/c",
            ": expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
        ),
        ("KAFKA_BOOTSTRP", "localhost:1", ": no such setting; did you mean TIDEMILL_KAFKA_BOOTSTRAP?"),
        ("DATABSE_URL", "x", ": no such setting; did you mean TIDEMILL_DATABASE_URL?"),
        ("CACHES", "/x", ": no such setting; did you mean TIDEMILL_CACHE?"),
        ("LOG", "debug", ": no such setting by itself; expected TIDEMILL_LOG_..."),
        ("CONTEXT", "all", ": no such setting; did you mean TIDEMILL_CONTEXTS?"),
        ("CONTEXTS_ALL", "true", ": no such setting; did you mean TIDEMILL_CONTEXTS?"),
    ],
)
def test_a_bad_value_is_named_and_explained_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    message = refused(monkeypatch, **{name: value})
    assert message.startswith(f"TIDEMILL_{name}{expected}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("policies", "wrong"),
    [
        ("7", ""),
        ("{", ""),
        ('{"a.b": 7}', "a.b is not an object"),
        (
            '{"a.b": {"retention_period_days": 0}}',
            "a.b, retention_period_days: Input should be greater than 0",
        ),
        ('{"a.b": {"retention_period_days": 999999999}}', "less than or equal to 365000"),
        ('{"a.b": {"enabled": true}, "a.c": {"enabeld": false}}', "a.c, enabeld: Extra inputs"),
        ('{"a.b": {"enabled": null}}', "a.b, enabled: "),
    ],
)
def test_a_bad_policy_is_named_with_its_table_and_field(
    monkeypatch: pytest.MonkeyPatch, policies: str, wrong: str
) -> None:
    message = refused(monkeypatch, RETENTION_POLICIES=policies)
    assert message.startswith(f'TIDEMILL_RETENTION_POLICIES={policies}: expected {{"schema.table": ')
    assert wrong in message
    assert len(message.splitlines()) == 1


def test_a_type_that_nobody_has_described_is_no_setting() -> None:
    """It would be explained as something else."""

    class Odd(BaseModel):
        span: timedelta = timedelta(0)

    with pytest.raises(KeyError, match="timedelta"):
        variables_of({"odd": FieldInfo(annotation=Odd)})


def test_everything_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refused(
        monkeypatch,
        KAFKA_BOOTSTRP="localhost:1",
        DATABSE_URL=CANARY,
        COMMANDS_WORKERS="many",
        KAFKA_SESSION_S="1",
    )
    assert sorted(message.splitlines()) == [
        "TIDEMILL_COMMANDS_WORKERS=many: expected a whole number from 1 to 64",
        "TIDEMILL_DATABSE_URL: no such setting; did you mean TIDEMILL_DATABASE_URL?",
        "TIDEMILL_KAFKA_BOOTSTRP: no such setting; did you mean TIDEMILL_KAFKA_BOOTSTRAP?",
        "TIDEMILL_KAFKA_SESSION_S=1: expected a number from 6 to 300",
    ]
    both = refused(monkeypatch, LOG="debug")
    assert both.splitlines()[-1].startswith("TIDEMILL_LOG: no such setting by itself")
    assert "TIDEMILL_DATABSE_URL" in both


def test_the_variables_of_the_tests_are_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_TEST_KAFKA_BOOTSTRAP", "127.0.0.1:9092")  # close to one of ours
    monkeypatch.setenv("TIDEMILL_CACHE", "/somewhere")  # the servers' for development
    load()


def test_every_mistake_gets_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refused(monkeypatch, COMMANDS_WORKERS="x", HEALTH_PORT="y")
    assert [line.split("=")[0] for line in message.splitlines()] == [
        "TIDEMILL_COMMANDS_WORKERS",
        "TIDEMILL_HEALTH_PORT",
    ]


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"DATABASE_URL": "postgresql://u:p@db.example.com/x"}, "TIDEMILL_DATABASE_SSLMODE"),
        ({"DATABASE_URL": "postgresql:///x?host=db.example.com"}, "TIDEMILL_DATABASE_SSLMODE"),
        ({"DATABASE_URL": "postgresql://u:p@localhost,db.example.com/x"}, "TIDEMILL_DATABASE_SSLMODE"),
        ({"DATABASE_URL": "postgresql://u:p@[::1]:5432,10.0.0.1:5432/x"}, "TIDEMILL_DATABASE_SSLMODE"),
        ({"DATABASE_URL": "postgresql:///x?host=localhost,db.example.com"}, "TIDEMILL_DATABASE_SSLMODE"),
        ({"DATABASE_READER_URL": "postgresql://u:p@10.0.0.1/x"}, "TIDEMILL_DATABASE_SSLMODE"),
        ({"DATABASE_ARCHIVER_URL": "postgresql://u:p@10.0.0.1/x"}, "TIDEMILL_DATABASE_SSLMODE"),
        (
            {"DATABASE_URL": "postgresql://u:p@localhost/x", "DATABASE_SSLMODE": "prefer"},
            "TIDEMILL_DATABASE_SSLMODE",
        ),
        ({"KAFKA_BOOTSTRAP": "localhost:9092,kafka:9092"}, "TIDEMILL_KAFKA_SECURITY_PROTOCOL"),
        (
            {
                "KAFKA_BOOTSTRAP": "kafka:9092",
                "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
                "KAFKA_SASL_MECHANISM": "PLAIN",
                "KAFKA_SASL_USER": "u",
                "KAFKA_SASL_PASSWORD": "p",
            },
            "TIDEMILL_KAFKA_SECURITY_PROTOCOL",
        ),
        (
            {"KAFKA_BOOTSTRAP": "kafka:1", "KAFKA_SECURITY_PROTOCOL": "SASL_SSL"},
            "TIDEMILL_KAFKA_SASL_MECHANISM",
        ),
        ({"KAFKA_SASL_USER": "u"}, "TIDEMILL_KAFKA_SASL_USER"),
        (
            {"REGISTRY_URL": "http://registry:8081", "REGISTRY_USER": "u", "REGISTRY_PASSWORD": "p"},
            "TIDEMILL_REGISTRY_URL",
        ),
        ({"REGISTRY_URL": "http://localhost:1", "REGISTRY_USER": "u"}, "TIDEMILL_REGISTRY_PASSWORD"),
    ],
)
def test_nothing_leaves_the_machine_in_plain_text_unless_told_to(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], named: str
) -> None:
    assert refused(monkeypatch, **environment).startswith(named)


@pytest.mark.parametrize(
    ("value", "servers"),
    [
        ("[::1]:9092", "[::1]:9092"),
        ("localhost:9092, 127.0.0.1:9093 ,[::1]:9094", "localhost:9092,127.0.0.1:9093,[::1]:9094"),
    ],
)
def test_brokers_may_have_addresses_of_version_6_and_blanks_around_their_commas(
    monkeypatch: pytest.MonkeyPatch, value: str, servers: str
) -> None:
    monkeypatch.setenv("TIDEMILL_KAFKA_BOOTSTRAP", value)
    settings = load()
    assert settings.kafka.servers() == servers
    listed = KafkaConnection(bootstrap=settings.kafka.servers()).options()["bootstrap_servers"]
    hosts = {(host, port) for host, port, _ in collect_hosts(listed)}
    assert ("::1", 9092 if value == servers else 9094) in hosts


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("  http://registry:8081/ ", "http://registry:8081"),
        ("http://[2001:db8::1]:8081/apis/ccompat/v7", "http://[2001:db8::1]:8081/apis/ccompat/v7"),
    ],
)
def test_the_registry_may_have_a_slash_blanks_around_it_and_an_address_of_version_6(
    monkeypatch: pytest.MonkeyPatch, value: str, url: str
) -> None:
    monkeypatch.setenv("TIDEMILL_REGISTRY_URL", value)
    assert load().registry.url == url


@pytest.mark.parametrize("value", ["http://a:8081,http://b:8081", "http://a,b", "http:// a"])
def test_the_registry_has_one_address(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    assert "expected one address" in refused(monkeypatch, REGISTRY_URL=value)


def test_blanks_around_the_address_of_the_database_are_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_DATABASE_URL", " postgresql://u@localhost/x ")
    assert load().database.dsn() == "postgresql://u@localhost/x"


def test_a_broker_of_version_6_elsewhere_gets_no_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_KAFKA_BOOTSTRAP", "[2001:db8::1]:9092")
    with pytest.raises(UsageError, match="TIDEMILL_KAFKA_SECURITY_PROTOCOL"):
        load()


def test_plain_text_may_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_KAFKA_BOOTSTRAP", "kafka:9092")
    monkeypatch.setenv("TIDEMILL_KAFKA_SECURITY_PROTOCOL", "PLAINTEXT")
    monkeypatch.setenv("TIDEMILL_DATABASE_URL", "postgresql://u:p@timescaledb/x")
    monkeypatch.setenv("TIDEMILL_DATABASE_SSLMODE", "disable")
    assert load().database.dsn() == "postgresql://u:p@timescaledb/x"


def test_each_login_may_have_its_own_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_DATABASE_URL", "postgresql://service@localhost/x")
    assert load().database.dsn("reader") == "postgresql://service@localhost/x"
    monkeypatch.setenv("TIDEMILL_DATABASE_READER_URL", "postgresql://reader@localhost/x")
    assert load().database.dsn("reader") == "postgresql://reader@localhost/x"
    assert load().database.dsn("migration") == "postgresql://service@localhost/x"
    monkeypatch.setenv("TIDEMILL_DATABASE_ARCHIVER_URL", "postgresql://archiver@localhost/x")
    assert load().database.dsn("archiver") == "postgresql://archiver@localhost/x"


def test_what_is_needed_and_not_set_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"TIDEMILL_DATABASE_URL is not set.*tidemill dev up"):
        load().database.dsn()
    with pytest.raises(UsageError, match=r"TIDEMILL_KAFKA_BOOTSTRAP is not set.*tidemill dev up"):
        load().kafka.servers()


def test_the_horizon_outlives_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refused(monkeypatch, TOPICS_COMMAND_DAYS="8")
    assert message.startswith("TIDEMILL_COMMANDS_HORIZON_DAYS: expected more than 8")


def test_secrets_may_be_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tidemill_database_url").write_text(f"postgresql://u:{CANARY}@localhost/x\n")
    monkeypatch.setenv("TIDEMILL_SECRETS_DIR", str(tmp_path))
    assert load().database.dsn() == f"postgresql://u:{CANARY}@localhost/x"
    monkeypatch.setenv("TIDEMILL_DATABASE_URL", "postgresql://u@localhost/y")
    assert load().database.dsn() == "postgresql://u@localhost/y"


def test_a_folder_of_secrets_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, SECRETS_DIR="/no/such/folder").startswith("TIDEMILL_SECRETS_DIR: ")


def test_an_env_file_gives_what_the_environment_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = tmp_path / "run.env"
    lines.write_text("TIDEMILL_TOPICS_PREFIX=trial\nTIDEMILL_COMMANDS_WORKERS=2\n")
    monkeypatch.setenv("TIDEMILL_COMMANDS_WORKERS", "3")
    settings = load(lines)
    assert (settings.topics.prefix, settings.commands.workers) == ("trial", 3)
    with pytest.raises(UsageError, match="no such file"):
        load(tmp_path / "other.env")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("connect_timeout=3", "expected no parameter connect_timeout: leave it out"),
        ("keepalives_idle=30", "expected no parameter keepalives_idle: leave it out"),
        ("sslmode=require&channel_binding=require", "TIDEMILL_DATABASE_SSLMODE=verify-full"),
        ("gssencmode=disable", "TIDEMILL_DATABASE_SSLMODE"),
        ("sslmode=verify-full&sslrootcert=/missing.pem", "/missing.pem .* TIDEMILL_DATABASE_CA_FILE"),
        ("statement_timeout=5", "alter role"),
        ("connect_timeout=", "connect_timeout"),
    ],
)
def test_a_parameter_of_the_address_that_a_driver_does_not_know_is_named(
    monkeypatch: pytest.MonkeyPatch, query: str, told: str
) -> None:
    monkeypatch.setenv("TIDEMILL_DATABASE_URL", f"postgresql://u:{CANARY}@localhost/x?{query}")
    with pytest.raises(UsageError, match=f"^TIDEMILL_DATABASE_URL: .*{told}") as caught:
        load()
    assert CANARY not in str(caught.value)


def test_parameters_that_both_drivers_know_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    url = f"postgresql://u@a.example.com,b.example.com/x?sslmode=verify-full&sslrootcert={ca}&application_name=y"
    monkeypatch.setenv("TIDEMILL_DATABASE_URL", url)
    assert load().database.dsn() == url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"mysql://u:{CANARY}@localhost/x"),
        ("DATABASE_URL", f"postgresql://u:{CANARY}@far.example.com/x"),
        ("DATABASE_PASSWORD", CANARY),
        ("KAFKA_SASL_PASSWORD", CANARY),
        ("REGISTRY_PASSWORD", CANARY),
    ],
)
def test_an_error_never_shows_a_secret(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TIDEMILL_{name}", value)
    with pytest.raises(UsageError) as caught:
        load()
    assert CANARY not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_a_repr_never_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_DATABASE_URL", f"postgresql://u:{CANARY}@localhost/x")
    monkeypatch.setenv("TIDEMILL_KAFKA_KEY_PASSWORD", CANARY)
    settings = load()
    for text in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert CANARY not in text


def test_every_secret_is_known_to_whoever_must_hide_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_DATABASE_URL", "postgresql://u:p%40ss-w0rd@localhost/x")
    monkeypatch.setenv("TIDEMILL_KAFKA_KEY_PASSWORD", CANARY)
    assert load().secrets() >= {CANARY, "p%40ss-w0rd", "p@ss-w0rd", "postgresql://u:p%40ss-w0rd@localhost/x"}


def test_settings_do_not_change() -> None:
    settings = load()
    with pytest.raises(ValidationError, match="frozen"):
        settings.topics.prefix = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        settings.topics = Settings().topics  # type: ignore[misc]


def test_every_variable_says_what_it_is_for() -> None:
    assert all(variable.meaning for variable in variables())
    assert len({variable.name for variable in variables()}) == len(variables())


def test_the_page_of_settings_is_the_one_that_is_made() -> None:
    page = (tree.ROOT / "docs" / "settings.md").read_text()
    assert page == settings_page(), "python -m tidemill.settings > docs/settings.md"
