"""A body becomes a command, or every fault with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.engine.submissions import COLLECTIONS, NOW, SERVICE, STREAMS, caller, documents
from tests.support.security.hashes import OF_PEARS
from tidemill.domain.collection import Collection
from tidemill.domain.errors import RequestRefused
from tidemill.domain.request_codes import RequestCode
from tidemill.security.principals import Grant, Principal, PrincipalKind, Verb
from tidemill.submissions.preconditions import Precondition
from tidemill.submissions.requests import Caller, DocumentRequest, DocumentVerb, Submission

USER = {"username": "ada", "email": "ada@example.org", "hashed_password": OF_PEARS}
TICK = {"symbol": "AAPL", "time": "2026-11-30T10:00:00Z", "price": 10.5, "source": "test"}


def request(
    name: str, verb: DocumentVerb, body: Any = None, key: str | None = None, **more: Any
) -> DocumentRequest:
    return DocumentRequest(collection=COLLECTIONS[name], verb=verb, body=body, key=key, **more)


def made(
    name: str,
    verb: DocumentVerb,
    body: Any = None,
    key: str | None = None,
    who: Caller | None = None,
    **more: Any,
) -> Submission:
    return documents().submission(request(name, verb, body, key, **more), who or caller("k-1"))


def fields(submission: Submission) -> dict[str, Any]:
    """The fields of a command beyond the base fields, without those that are as if they were not given."""
    found = submission.command.model_dump(exclude_defaults=True)
    return {name: found[name] for name in found if name not in ("command_id", "service_name", "timestamp")}


def refusal(*arguments: Any, **more: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        made(*arguments, **more)
    return refused.value


def faults(refused: RequestRefused) -> dict[str, str]:
    return {fault.where: fault.detail for fault in refused.faults}


def test_a_creation_has_the_base_fields_of_its_sender() -> None:
    submission = made(
        "users", DocumentVerb.CREATE, USER | {"user_id": "u-1"}, who=caller("k-1", correlation_id="c-1")
    )
    command = submission.command
    assert type(command).__name__ == "CreateUser"
    assert (command.command_id, command.service_name, command.timestamp) == ("k-1", "shop", NOW)
    assert command.correlation_id == "c-1"
    assert submission.key == "u-1"
    assert submission.version == 1
    assert submission.target.name == "tidemill.users.CreateUser"


def test_a_document_without_a_key_gets_one_that_a_repeat_gets_again() -> None:
    first, again = (made("users", DocumentVerb.CREATE, USER) for _ in range(2))
    assert first.key == again.key is not None
    assert first.command == again.command
    assert first.key != made("users", DocumentVerb.CREATE, USER, who=caller("k-2")).key


def test_the_key_of_one_kind_of_document_is_not_that_of_another() -> None:
    body = {"name": "a", "config_data": {}}
    assert (
        made("client-configs", DocumentVerb.CREATE, body).key != made("users", DocumentVerb.CREATE, USER).key
    )


def test_without_an_idempotency_key_an_id_is_made() -> None:
    assert made("users", DocumentVerb.CREATE, USER, who=caller()).command_id == "made-1"


def test_the_id_may_be_in_the_body_and_must_then_be_the_header() -> None:
    body = USER | {"command_id": "k-9"}
    assert made("users", DocumentVerb.CREATE, body, who=caller()).command_id == "k-9"
    assert made("users", DocumentVerb.CREATE, body, who=caller("k-9")).command_id == "k-9"
    refused = refusal("users", DocumentVerb.CREATE, body)
    assert refused.request_code is RequestCode.BAD_PARAMETER
    assert faults(refused).keys() == {"Idempotency-Key", "/command_id"}


def test_the_service_is_the_principal() -> None:
    assert made("users", DocumentVerb.CREATE, USER | {"service_name": "shop"}).command.service_name == "shop"
    refused = refusal("users", DocumentVerb.CREATE, USER | {"service_name": "bank"})
    assert refused.request_code is RequestCode.SERVICE_MISMATCH
    assert faults(refused) == {"/service_name": "must be shop, or be left out"}


def test_the_time_is_the_servers() -> None:
    refused = refusal("users", DocumentVerb.CREATE, USER | {"timestamp": "2026-01-01T00:00:00Z"})
    assert faults(refused) == {"/timestamp": "is set by the server"}


def test_an_id_that_is_no_text_is_a_fault_like_any_other() -> None:
    refused = refusal("users", DocumentVerb.CREATE, USER | {"command_id": 7}, who=caller())
    assert faults(refused) == {"/command_id": "must be a text"}


def test_every_fault_is_told_with_its_place() -> None:
    body = {"username": "", "email": "nobody", "is_active": 1, "colour": "red"}
    refused = refusal("users", DocumentVerb.CREATE, body)
    assert refused.request_code is RequestCode.BAD_BODY
    told = faults(refused)
    assert told.keys() == {"/username", "/email", "/hashed_password", "/colour"}
    assert told["/hashed_password"] == "is required"
    assert told["/colour"] == "is not a field"
    assert "is not an e-mail address" in told["/email"]
    codes = {fault.where: fault.code for fault in refused.faults}
    assert codes["/colour"] == RequestCode.NO_SUCH_FIELD
    assert codes["/email"] == RequestCode.BAD_VALUE


def test_of_many_faults_the_first_fifty_are_placed_and_the_others_counted() -> None:
    body = USER | {f"colour{number}": "red" for number in range(87)}
    refused = refusal("users", DocumentVerb.CREATE, body)
    assert len(refused.faults) == 50
    assert refused.detail == "the body is not what its fields demand (and 37 more faults)"


def test_a_secret_is_never_quoted() -> None:
    refused = refusal("users", DocumentVerb.CREATE, USER | {"hashed_password": "pears-and-plums"})
    assert "pears-and-plums" not in "".join(faults(refused).values())


def test_texts_are_made_clean() -> None:
    body = USER | {"username": "  Zoe\u0308 ", "email": "Ada@EXAMPLE.org"}
    command: Any = made("users", DocumentVerb.CREATE, body).command
    assert command.username == "Zo\u00eb"
    assert command.email == "Ada@example.org"


@pytest.mark.parametrize(
    ("changes", "where", "detail"),
    [
        ({"price": "10.5"}, "/price", 'must be a number, or "NaN", "Infinity" or "-Infinity"'),
        ({"price": True}, "/price", "must not be true or false"),
        ({"price": 2**53 + 1}, "/price", "has more digits than the field: round it"),
        ({"time": 1_700_000_000}, "/time", "must be a text, such as 2026-11-30T10:00:00Z"),
        ({"time": "2026-11-30T10:00:00"}, "", "time has no time zone: say which, or Z"),
        ({"time": "2026-11-30T10:00:00.1234567Z"}, "/time", "is finer than a microsecond: round it"),
        ({"price": 10**400}, "/price", None),
    ],
)
def test_nothing_is_lost_or_taken_for_something_else(changes: Any, where: str, detail: str | None) -> None:
    refused = refusal("market-data", DocumentVerb.CREATE, TICK | changes)
    told = faults(refused)
    assert told.keys() == {where}
    assert detail is None or told[where] == detail


def test_a_truth_value_is_not_made_of_a_number() -> None:
    refused = refusal("users", DocumentVerb.CREATE, USER | {"is_active": 1})
    assert faults(refused) == {"/is_active": "must be true or false"}


def test_facts_have_no_key_and_no_version() -> None:
    submission = made("market-data", DocumentVerb.CREATE, TICK)
    assert (submission.key, submission.version) == (None, None)
    assert submission.target.verb is Verb.CREATE


# --- embedded JSON ---


def test_embedded_objects_become_one_canonical_text() -> None:
    objects = [{"b": 1, "a": {"ü": [True, None, 1.5]}}, {"a": {"ü": [True, None, 1.5]}, "b": 1}]
    values = [
        fields(made("client-configs", DocumentVerb.CREATE, {"name": "n", "config_data": one}))["config_data"]
        for one in objects
    ]
    assert values == ['{"a":{"ü":[true,null,1.5]},"b":1}'] * 2


def test_whole_numbers_keep_every_digit() -> None:
    body = {"name": "n", "config_data": {"wide": 2**64 + 1}}
    assert str(2**64 + 1) in fields(made("client-configs", DocumentVerb.CREATE, body))["config_data"]


@pytest.mark.parametrize("value", ['{"a": 1}', [1], 1, True, {"a": float("inf")}])
def test_what_is_no_object_is_refused(value: Any) -> None:
    refused = refusal("client-configs", DocumentVerb.CREATE, {"name": "n", "config_data": value})
    assert faults(refused).keys() == {"/config_data"}


def test_an_object_that_cannot_be_stored_is_refused_by_the_contexts_own_check() -> None:
    refused = refusal("client-configs", DocumentVerb.CREATE, {"name": "n", "config_data": {"a": "\x00"}})
    assert "NUL" in faults(refused)["/config_data"]


def test_profiles_take_an_object_too() -> None:
    body = {"name": "n", "profile_data": {"connector_type": "rest"}, "profile_id": "p"}
    assert json.loads(fields(made("connector-profiles", DocumentVerb.CREATE, body))["profile_data"])


def test_records_within_a_command_have_embedded_objects_too() -> None:
    line = {"time": "2026-11-30T10:00:00Z", "level": "info", "message": "up", "details": {"b": 1, "a": 2}}
    body = {"service": "shop", "lines": [line, line | {"level": "loud", "details": "text"}, 7]}
    told = faults(refusal("system-logs", DocumentVerb.CREATE, body))
    assert told.keys() == {"/lines/1/level", "/lines/1/details", "/lines/2"}
    command: Any = made("system-logs", DocumentVerb.CREATE, body | {"lines": [line]}).command
    assert command.lines[0].details == '{"a":2,"b":1}'


# --- changes ---


def test_a_patch_changes_what_it_names_and_empties_what_is_null() -> None:
    submission = made("users", DocumentVerb.PATCH, {"email": "a@b.org", "full_name": None}, "u-1")
    assert fields(submission) == {"user_id": "u-1", "email": "a@b.org", "clear": ["full_name"]}
    assert submission.version is None, "it is not known what was there before"


def test_null_for_what_cannot_be_empty_is_a_fault() -> None:
    told = faults(refusal("users", DocumentVerb.PATCH, {"email": None}, "u-1"))
    assert told == {"/email": "cannot be null: it cannot be emptied"}
    told = faults(
        refusal("connector-profiles", DocumentVerb.PATCH, {"name": None, "profile_data": {"a": 1}}, "p-1")
    )
    assert "/name" in told


def test_a_patch_of_nothing_is_refused_in_the_commands_own_words() -> None:
    told = faults(refusal("users", DocumentVerb.PATCH, {}, "u-1"))
    assert told[""].startswith("nothing to change: give username")


def test_a_replacement_has_every_field() -> None:
    submission = made("users", DocumentVerb.REPLACE, USER | {"is_active": True}, "u-1")
    assert fields(submission) == USER | {"user_id": "u-1", "is_active": True, "clear": ["full_name"]}
    told = faults(refusal("users", DocumentVerb.REPLACE, {"username": "ada"}, "u-1"))
    assert told.keys() == {"/email", "/hashed_password", "/is_active"}
    assert set(told.values()) == {"is required"}


def test_the_key_in_the_body_must_be_that_of_the_url() -> None:
    assert made("users", DocumentVerb.PATCH, {"user_id": "u-1", "email": "a@b.org"}, "u-1").key == "u-1"
    told = faults(refusal("users", DocumentVerb.PATCH, {"user_id": "u-2", "email": "a@b.org"}, "u-1"))
    assert told == {"/user_id": "must be u-1, as in the URL"}


@pytest.mark.parametrize("name", ["clear", "expected_version"])
def test_fields_of_the_engine_are_no_fields_of_a_document(name: str) -> None:
    refused = refusal(
        "users", DocumentVerb.PATCH, {name: [] if name == "clear" else 3, "email": "a@b.org"}, "u-1"
    )
    assert [fault.code for fault in refused.faults] == [RequestCode.NO_SUCH_FIELD]


def test_if_match_is_the_version_that_is_expected_and_says_the_next_one() -> None:
    submission = made(
        "users", DocumentVerb.PATCH, {"email": "a@b.org"}, "u-1", precondition=Precondition(3, exists=True)
    )
    assert fields(submission)["expected_version"] == 3
    assert submission.version == 4
    submission = made("users", DocumentVerb.DELETE, None, "u-1", precondition=Precondition(3, exists=True))
    assert fields(submission) == {"user_id": "u-1", "expected_version": 3}
    assert submission.version is None


@pytest.mark.parametrize(
    ("name", "verb"), [("users", DocumentVerb.CREATE), ("market-data", DocumentVerb.CREATE)]
)
def test_what_is_created_matches_nothing(name: str, verb: DocumentVerb) -> None:
    body = USER if name == "users" else TICK
    refused = refusal(name, verb, body, precondition=Precondition(3, exists=True))
    assert refused.request_code is RequestCode.WRONG_ETAG


def test_a_deletion_needs_no_body() -> None:
    submission = made("users", DocumentVerb.DELETE, None, "u-1")
    assert type(submission.command).__name__ == "DeleteUser"
    assert submission.target.verb is Verb.DELETE


def test_what_a_document_belongs_to_is_missed_and_taken_as_given() -> None:
    asked = request("analysis-files", DocumentVerb.DELETE, None, "f-1")
    assert documents().missing(asked, caller("k")) == ("data_analysis_id",)
    submission = made("analysis-files", DocumentVerb.DELETE, None, "f-1", given={"data_analysis_id": "a-1"})
    assert fields(submission) == {"analysis_file_id": "f-1", "data_analysis_id": "a-1"}
    assert submission.target.stream.key(submission.command) == "a-1"
    named = request("analysis-files", DocumentVerb.DELETE, {"data_analysis_id": "a-1"}, "f-1")
    assert documents().missing(named, caller("k")) == ()
    assert documents().missing(request("users", DocumentVerb.DELETE, None, "u"), caller("k")) == ()
    assert documents().missing(request("users", DocumentVerb.CREATE, USER), caller("k")) == ()


@pytest.mark.parametrize("verb", [DocumentVerb.REPLACE, DocumentVerb.PATCH, DocumentVerb.DELETE])
def test_facts_are_not_changed(verb: DocumentVerb) -> None:
    assert refusal("market-data", verb, TICK, "k").request_code is RequestCode.NO_SUCH_VERB


# --- grants ---


def principal(**grants: Verb) -> Principal:
    named = {name.replace("_", "-"): Grant(frozenset({verb})) for name, verb in grants.items()}
    return Principal("shop", PrincipalKind.SERVICE, named)


def test_a_collection_without_a_grant_does_not_exist() -> None:
    who = caller("k", principal(client_configs=Verb.CREATE))
    assert refusal("users", DocumentVerb.CREATE, USER, who=who).request_code is RequestCode.NO_COLLECTION


@pytest.mark.parametrize(
    ("verb", "granted"),
    [
        (DocumentVerb.CREATE, Verb.UPDATE),
        (DocumentVerb.PATCH, Verb.CREATE),
        (DocumentVerb.REPLACE, Verb.DELETE),
        (DocumentVerb.DELETE, Verb.UPDATE),
    ],
)
def test_a_verb_needs_its_grant(verb: DocumentVerb, granted: Verb) -> None:
    who = caller("k", principal(users=granted))
    assert refusal("users", verb, USER, "u-1", who=who).request_code is RequestCode.FORBIDDEN


# --- commands by name ---


def command(name: str, parameters: dict[str, Any], who: Caller | None = None) -> Submission:
    return documents().command(name, parameters, who or caller("k-1"))


@pytest.mark.parametrize("name", ["CompleteDataAnalysis", "tidemill.data_analyses.CompleteDataAnalysis"])
def test_a_command_is_sent_by_its_name(name: str) -> None:
    submission = command(name, {"data_analysis_id": "a-1", "result": {"b": 1, "a": 2}})
    assert fields(submission) == {"data_analysis_id": "a-1", "result": '{"a":2,"b":1}'}
    assert submission.key == "a-1"
    assert submission.target.verb is Verb.UPDATE
    assert submission.target.collection == COLLECTIONS["data-analyses"]


def test_the_faults_of_a_command_are_below_its_parameters() -> None:
    with pytest.raises(RequestRefused) as refused:
        command("CompleteDataAnalysis", {"result": {}, "colour": 1})
    assert faults(refused.value).keys() == {"/parameters/data_analysis_id", "/parameters/colour"}
    with pytest.raises(RequestRefused) as refused:
        command("CompleteDataAnalysis", {"service_name": "bank"})
    assert faults(refused.value).keys() == {"/parameters/service_name"}


def test_a_command_that_may_not_be_known_is_like_one_that_does_not_exist() -> None:
    who = caller("k", principal(users=Verb.UPDATE))
    told = []
    for name in ("CompleteDataAnalysis", "NoSuchCommand"):
        with pytest.raises(RequestRefused) as refused:
            command(name, {}, who)
        told.append((refused.value.code, refused.value.detail, faults(refused.value)))
    assert told[0] == told[1]


def test_a_command_needs_the_grant_of_its_verb() -> None:
    for name, granted in (
        ("CreateUser", Verb.UPDATE),
        ("DeleteUser", Verb.CREATE),
        ("UpdateUser", Verb.CREATE),
    ):
        with pytest.raises(RequestRefused) as refused:
            command(name, {}, caller("k", principal(users=granted)))
        assert refused.value.request_code is RequestCode.FORBIDDEN


def test_every_collection_of_the_built_in_contexts_can_be_written() -> None:
    assert SERVICE.may(Verb.CREATE, "users")
    created = {name for name, collection in COLLECTIONS.items() if collection.crud.create is not None}
    assert created == COLLECTIONS.keys()
    changed = {name for name, one in COLLECTIONS.items() if one.crud.update and one.crud.delete}
    assert changed == {"users", "client-configs", "connector-profiles", "data-analyses", "analysis-files"}
    assert STREAMS.keys() >= {collection.aggregate for collection in COLLECTIONS.values()}


def test_a_collection_is_found_by_its_table() -> None:
    collection: Collection = COLLECTIONS["analysis-files"]
    assert collection.crud.key == "analysis_file_id"
