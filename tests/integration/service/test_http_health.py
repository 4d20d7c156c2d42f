"""The health that callers of the API see knows Kafka: a broker that is gone is a problem, one that is back is none."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.support.http.api import OWN
from tests.support.servers.installation import Installation
from tests.support.waiting import HANGING_S, eventually_blocking
from tidemill_devkit.stack import Stack

pytestmark = [pytest.mark.breaks_servers, pytest.mark.slow]


def test_a_broker_that_is_gone_makes_it_degraded_until_it_is_back(
    breakable: Installation, breakable_stack: Stack
) -> None:
    with breakable.serving("http", **OWN) as serving:
        (address,) = (line["address"] for line in serving.lines() if line.get("event") == "http_served")
        with httpx2.Client(base_url=address, timeout=HANGING_S) as client:

            def health() -> dict[str, Any]:
                answer = client.get("/api/db/health")
                assert answer.status_code == 200
                return dict(answer.json())

            assert (health()["status"], health()["problems"]) == ("healthy", [])
            breakable_stack.kafka.kill()
            eventually_blocking(lambda: health()["status"] == "degraded", what="Kafka to be missed")
            (problem,) = health()["problems"]
            assert problem.startswith("kafka is not available: nothing can be written")
            assert health()["database_connected"] is True
            breakable_stack.repair()
            eventually_blocking(lambda: health()["problems"] == [], what="Kafka to be noticed again")
