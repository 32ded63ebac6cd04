"""The watch between two threads: orders to stop arrive, nothing told is lost or told twice."""

import threading

import pytest

from services.trainer.core.errors import LeaseLostError, RunCancelledError, TrainerError
from services.trainer.core.watch import LossPoint, Phase, Report, Watch
from tests.support.attempts import point


def test_a_new_watch_tells_where_the_run_stands() -> None:
    assert Watch("s", "c").report() == Report(Phase.STARTING, 0, 0, (), "s", "c")


def test_progress_is_the_latest() -> None:
    watch = Watch("", "")
    watch.enter(Phase.RUNNING)
    watch.step(1, 9)
    watch.step(2, 9)
    watch.set_snapshot("s")
    watch.set_checkpoint("c")
    assert watch.report() == Report(Phase.RUNNING, 2, 9, (), "s", "c")


@pytest.mark.parametrize("reason", [LeaseLostError, RunCancelledError])
def test_an_order_to_stop_is_met_at_every_sign_of_life(
    reason: type[LeaseLostError] | type[RunCancelledError],
) -> None:
    watch = Watch("", "")
    watch.step(1, 9)
    watch.check()
    watch.stop(reason)
    for sign in (watch.check, lambda: watch.step(2, 9), lambda: watch.enter(Phase.EXPORTING)):
        with pytest.raises(reason):
            sign()
    assert watch.report() == Report(Phase.STARTING, 1, 9, (), "", "")


def test_both_reasons_to_stop_are_the_trainers_own() -> None:
    assert {LeaseLostError.__base__, RunCancelledError.__base__} == {TrainerError}


def test_orders_to_pause_and_to_stop_wait_for_the_end_of_a_step() -> None:
    watch = Watch("", "")
    assert (watch.pausing, watch.stopping) == (False, False)
    watch.ask_pause()
    watch.ask_stop()
    watch.step(1, 9)
    watch.check()
    watch.enter(Phase.EXPORTING)
    assert (watch.pausing, watch.stopping) == (True, True)


def test_points_are_told_again_until_they_have_arrived() -> None:
    watch = Watch("", "")
    watch.add_point(point(1))
    lost = watch.report()
    assert watch.report() == lost
    assert lost.loss_points == (point(1),)


def test_points_that_come_while_a_report_is_under_way_stay() -> None:
    watch = Watch("", "")
    watch.add_point(point(1))
    report = watch.report()
    watch.add_point(point(2))
    watch.told(report)
    assert watch.report().loss_points == (point(2),)


def test_a_report_does_not_change_after_it_was_made() -> None:
    watch = Watch("", "")
    report = watch.report()
    watch.add_point(point(1))
    watch.step(5, 9)
    assert (report.loss_points, report.steps_done_count) == ((), 0)


def test_a_checkpoint_is_taken_once_and_the_latest_counts() -> None:
    watch = Watch("", "")
    assert watch.take_checkpoint() is None
    watch.offer_checkpoint(b"1")
    watch.offer_checkpoint(b"2")
    assert watch.take_checkpoint() == b"2"
    assert watch.take_checkpoint() is None


def test_an_empty_checkpoint_is_one() -> None:
    watch = Watch("", "")
    watch.offer_checkpoint(b"")
    assert watch.take_checkpoint() == b""


def test_a_checkpoint_put_back_gives_way_to_a_newer_one() -> None:
    watch = Watch("", "")
    watch.put_back_checkpoint(b"1")
    assert watch.take_checkpoint() == b"1"
    watch.offer_checkpoint(b"2")
    watch.put_back_checkpoint(b"1")
    assert watch.take_checkpoint() == b"2"


def test_two_threads_lose_and_repeat_nothing() -> None:
    watch = Watch("", "")
    count = 20_000

    def write() -> None:
        for step in range(1, count + 1):
            watch.add_point(point(step))

    writer = threading.Thread(target=write)
    writer.start()
    told: list[LossPoint] = []
    while writer.is_alive() or watch.report().loss_points:
        report = watch.report()
        told += report.loss_points
        watch.told(report)
    writer.join()
    assert [p.step for p in told] == list(range(1, count + 1))
