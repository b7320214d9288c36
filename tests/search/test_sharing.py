"""Who waits for whom: never for what is stored, never for what nobody trains."""

from __future__ import annotations

from sqtune.search.sharing import Course, Sharing, shared_epochs

A = Course(("f1", "f2", "a3", "a4"), (2, 4))
B = Course(("f1", "f2", "b3", "b4"), (2, 4))
OTHER = Course(("g1", "g2", "g3", "g4"), (2, 4))


def nothing_stored(keys: tuple[str, ...]) -> int:
    return 0


def test_trials_that_begin_alike_share_until_they_part() -> None:
    assert shared_epochs(A, B) == 2
    assert shared_epochs(A, A) == 4
    assert shared_epochs(A, OTHER) == 0
    assert shared_epochs(A, Course(("f1",), (1,))) == 1


def test_a_trial_waits_for_the_one_that_trains_its_first_stage() -> None:
    sharing = Sharing(nothing_stored)
    assert sharing.waits_for(B) is None
    sharing.begin(7, A)
    assert sharing.waits_for(B) == 7
    assert sharing.waits_for(OTHER) is None


def test_nobody_waits_for_a_stage_that_is_over_or_stored() -> None:
    sharing = Sharing(nothing_stored)
    sharing.begin(7, A)
    sharing.progress(7, 1)
    assert sharing.waits_for(B) == 7
    sharing.progress(7, 2)  # whether it could be stored or not
    assert sharing.waits_for(B) is None

    stored = Sharing(lambda keys: 2)
    stored.begin(7, A)
    assert stored.waits_for(B) is None


def test_nobody_waits_for_a_checkpoint_that_is_not_kept() -> None:
    sharing = Sharing(nothing_stored)
    sharing.begin(7, Course(A.keys, (1, 4)))  # it keeps epoch 1, and they part after epoch 2
    assert sharing.waits_for(B) == 7
    sharing.progress(7, 1)
    assert sharing.waits_for(B) is None


def test_nobody_waits_for_one_that_has_ended() -> None:
    sharing = Sharing(nothing_stored)
    sharing.begin(7, A)
    sharing.end(7)
    assert sharing.waits_for(B) is None


def test_one_blocks_another_until_it_has_passed_what_they_share() -> None:
    sharing = Sharing(nothing_stored)
    sharing.begin(7, A)
    assert sharing.blocks(7, B)
    assert not sharing.blocks(7, OTHER)
    sharing.progress(7, 2)
    assert not sharing.blocks(7, B)
    sharing.end(7)
    assert not sharing.blocks(7, B)


def test_equal_trials_wait_for_each_other_to_the_end() -> None:
    sharing = Sharing(lambda keys: 2)
    sharing.begin(7, A)
    sharing.progress(7, 3)
    assert sharing.waits_for(Course(A.keys, A.stops)) == 7
