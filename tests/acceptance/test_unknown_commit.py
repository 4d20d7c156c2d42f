"""The answer to COMMIT is lost: whatever the server did, the batch is in the books once."""

from __future__ import annotations

import pytest

from tests.support.clients.journeys import Deployment
from tests.support.faults.proxy import Cut, proxied
from tests.support.waiting import eventually_blocking


@pytest.mark.parametrize("when", ["before the commit", "after the commit"])
def test_a_batch_whose_commit_is_not_answered_is_neither_lost_nor_doubled(
    deployment: Deployment, when: Cut
) -> None:
    with proxied(deployment.installation.database) as proxy:
        worker = deployment.start(TIDEMILL_DATABASE_URL=proxy.url)
        sent = deployment.send(deployment.ticks(20))
        deployment.await_consumed(len(sent))
        for round_ in range(1, 4):
            proxy.cut_next(when)
            sent |= deployment.send(deployment.ticks(50))
            deployment.await_consumed(len(sent))
            assert proxy.cuts == round_
        retried = [line["reason"] for line in worker.said("batch_retried")]
        assert any("the answer to COMMIT is lost" in reason for reason in retried), retried
        deployment.assert_conserved(sent)
        eventually_blocking(worker.well, what="the process to be well again")
        assert worker.stop() == 0
