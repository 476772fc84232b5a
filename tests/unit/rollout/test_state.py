"""What operators ask of rollouts and what follows, as one machine: every change, and what no change can break."""

from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.core.errors import BadRequest
from gateway.policy.rollout_file import Declared
from gateway.rollout.state import (
    Conflict,
    State,
    Trial,
    aborted,
    moved,
    promoted,
    resumed,
    rolled_back,
    started,
    stopped,
    wanted,
)

NOW = 1_800_000_000.0
A, B, C, D = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc", "dddddddddddd"


def trial(candidate=C, mode="canary", share=0.05):
    return Trial(candidate, mode, share, NOW, "cli:ada")


def declared(id_="file1", mode="canary"):
    return Declared(id_, Path("candidate"), mode, 0.05)


def test_a_trial_begins_grows_and_stops():
    state = started(State(), trial(), {A}, ())
    assert wanted(state, A, None).trial == trial()
    state = moved(state, None, 0.2)
    assert (state.trial.share, state.trial.id) == (0.2, trial().id)
    assert wanted(stopped(state, ()), A, None).trial is None


@pytest.mark.parametrize(
    ("mode", "share", "found"),
    [("canary", 0.1, ("canary", 0.1)), ("shadow", None, ("shadow", 1.0)), (None, 1.0, ("canary", 1.0))],
)
def test_mode_and_share_move(mode, share, found):
    state = moved(started(State(), trial(), {A}, ()), mode, share)
    assert (state.trial.mode, state.trial.share) == found


def test_a_shadow_becomes_a_canary_only_with_a_share():
    state = started(State(), trial(mode="shadow", share=1.0), {A}, ())
    with pytest.raises(BadRequest, match="share"):
        moved(state, "canary", None)
    assert moved(state, "canary", 0.01).trial.share == 0.01


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_is_above_nothing_and_at_most_all(share):
    with pytest.raises(BadRequest, match="share"):
        started(State(), trial(share=share), {A}, ())


@pytest.mark.parametrize(
    ("before", "candidate", "in_force", "running", "words"),
    [
        (State(trial=trial(D)), C, {A}, (), "dddddddddddd is on trial"),
        (State(trial=trial(C)), C, {A}, (), "on trial already; fix: farthing policy rollout set"),
        (State(), A, {A}, (), "in force already"),
        (State(), C, {A}, ("file1",), "change that file"),
    ],
)
def test_what_does_not_fit_is_refused_and_names_the_way_out(before, candidate, in_force, running, words):
    with pytest.raises(Conflict, match=words):
        started(before, trial(candidate), in_force, running)


def test_a_rollout_of_the_file_that_was_stopped_leaves_room_for_a_started_one():
    state = stopped(State(), {"file1"})
    assert wanted(state, A, declared()).declared is None
    assert wanted(started(state, trial(), {A}, {"file1"}), A, declared()).trial == trial()


def test_a_stop_holds_until_the_file_asks_for_something_else():
    state = stopped(State(), {"file1"})
    assert wanted(state, A, declared("file1")).declared is None
    assert wanted(state, A, declared("file2")).declared == declared("file2")
    assert wanted(resumed(state), A, declared("file1")).declared == declared("file1")


def test_a_rollout_of_the_file_that_is_off_asks_for_nothing():
    assert wanted(State(trial=trial()), A, declared(mode=None)).trial == trial()


def test_a_rollback_serves_the_earlier_policy_wherever_the_files_hold_the_bad_one():
    state = rolled_back(State(), A, {B}, (), NOW, "cli:ada")
    assert wanted(state, B, None).pinned == A
    assert wanted(state, A, None).pinned is None, "a replica whose files are not there yet"
    assert wanted(state, C, None).pinned is None, "the correction"
    assert wanted(state, B, None).pinned == A, "and the bad one again"


def test_a_second_rollback_goes_back_one_more_and_forgets_neither():
    state = rolled_back(rolled_back(State(), B, {C}, (), NOW, "x"), A, {B}, (), NOW, "x")
    assert [wanted(state, files, None).pinned for files in (A, B, C, D)] == [None, A, A, None]


def test_a_promotion_holds_until_the_files_say_the_same_and_a_rollback_of_it_goes_back():
    state = started(State(), trial(C), {A}, ())
    state = promoted(state, C, {A}, (), NOW, "x")
    assert (state.trial, wanted(state, A, None).pinned, wanted(state, C, None).pinned) == (None, C, None)
    state = rolled_back(state, A, {C}, (), NOW, "x")
    assert (wanted(state, A, None).pinned, wanted(state, C, None).pinned) == (None, A)


def test_the_files_rule_again_after_resume_and_only_where_there_is_something_to_end():
    state = resumed(rolled_back(State(), A, {B}, {"file1"}, NOW, "x"))
    assert (state.pin, state.stopped) == (None, ())
    with pytest.raises(Conflict, match="the files rule already"):
        resumed(State())


def test_a_canary_is_aborted_once_and_goes_on_with_a_share_counted_anew():
    guarded = Trial(C, "canary", 0.05, NOW, "cli:ada", "errors>+2%")
    state = aborted(started(State(), guarded, {A}, ()), guarded.id, "errors>+2%: x")
    assert (state.trial.aborted, state.trial.share, state.trial.id) == ("errors>+2%: x", 0.05, guarded.id)
    with pytest.raises(Conflict):
        aborted(state, guarded.id, "errors>+2%: y")
    with pytest.raises(BadRequest, match="say the share"):
        moved(state, None, None, "errors>+3%")
    again = moved(state, None, 0.02)
    assert (again.trial.aborted, again.trial.share, again.trial.abort_on) == (None, 0.02, "errors>+2%")
    assert again.trial.id != guarded.id
    with pytest.raises(Conflict):
        aborted(again, guarded.id, "by counts of before")


def test_counts_of_a_guarded_canary_begin_anew_with_every_change_and_others_go_on():
    plain = started(State(), trial(), {A}, ())
    assert moved(plain, None, 0.2).trial.id == trial().id
    guarded = moved(plain, None, None, "errors>+2%")
    assert (guarded.trial.id == trial().id, guarded.trial.abort_on) == (False, "errors>+2%")
    assert moved(guarded, None, 0.3).trial.id != guarded.trial.id
    assert moved(guarded, None, None, "").trial.abort_on == ""
    with pytest.raises(Conflict):
        aborted(moved(plain, "shadow", None), trial().id, "a shadow serves nobody")


class Rollouts(RuleBasedStateMachine):
    """Any order of changes by operators and of files on one gateway."""

    def __init__(self):
        super().__init__()
        self.state, self.files = State(), A

    def in_force(self):
        return wanted(self.state, self.files, None).pinned or self.files

    def attempt(self, change, *arguments):
        try:
            self.state = change(self.state, *arguments)
        except (Conflict, BadRequest):
            return False
        return True

    @rule(hash_=st.sampled_from([A, B, C, D]))
    def files_change(self, hash_):
        self.files = hash_

    @rule(hash_=st.sampled_from([A, B, C, D]), share=st.floats(0.01, 1))
    def start(self, hash_, share):
        if self.attempt(started, trial(hash_, share=share), {self.in_force()}, ()):
            assert self.in_force() != hash_

    @rule(share=st.floats(0.01, 1), mode=st.sampled_from(["shadow", "canary", None]))
    def move(self, share, mode):
        self.attempt(moved, mode, share)

    @rule()
    def stop(self):
        before = self.in_force()
        self.attempt(stopped, ())
        assert (self.state.trial, self.in_force()) == (None, before), "a stop changes nothing else"

    @rule(hash_=st.sampled_from([A, B, C, D]))
    def roll_back(self, hash_):
        self.attempt(rolled_back, hash_, {self.in_force()}, (), NOW, "x")
        assert (self.in_force(), self.state.trial) == (hash_, None), "what is asked for is in force, and alone"

    @rule(hash_=st.sampled_from([A, B, C, D]))
    def promote(self, hash_):
        self.attempt(promoted, hash_, {self.in_force()}, (), NOW, "x")
        assert (self.in_force(), self.state.trial) == (hash_, None)

    @rule()
    def resume(self):
        if self.attempt(resumed):
            assert self.in_force() == self.files

    @invariant()
    def a_pin_never_replaces_itself(self):
        assert self.state.pin is None or self.state.pin.policy not in {*self.state.pin.over, *self.state.pin.left}


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
