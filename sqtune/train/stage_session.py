"""One training and the stage store: where it begins, what it claims, what it leaves there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqtune.config.trial import TrialConfig
from sqtune.errors import QuantizationError, StageBusy, StoreError
from sqtune.train.result import EpochResult
from sqtune.train.stage_store import StageStore
from sqtune.train.stages import epoch_keys, stage_ends
from sqtune.train.training import Training
from sqtune.train.tree import from_bytes, to_bytes


@dataclass(slots=True)
class StageSession:
    """What a trial has to do with a stage store.

    Attributes:
        store: The store.
        owner: Who trains, such as "studyuuid:12"; the same when the trial is taken up again.
        keep: Epochs whose checkpoints stay, beside those that end a stage.
        problem: The first thing that went wrong with the store; training went on without it.
    """

    store: StageStore
    owner: str
    keep: tuple[int, ...] = ()
    problem: str | None = None

    def note(self, error: StoreError) -> None:
        """Remember a problem, if it is the first."""
        self.problem = self.problem or str(error)

    def finish(self, seconds: float) -> None:
        """Wait, no longer than so many seconds, until all that was stored is written."""
        try:
            self.store.finish(seconds)
        except StoreError as error:
            self.note(error)

    def staying(self, config: TrialConfig) -> tuple[int, ...]:
        """Return the epochs whose checkpoints stay."""
        kept = (epoch for epoch in self.keep if 0 < epoch <= config.num_epochs)
        return tuple(sorted({*stage_ends(config), *kept}))


def _next(staying: Sequence[int], epoch: int) -> int:
    return next(each for each in staying if each > epoch)


class StagedTraining:
    """Takes a training's epochs from the store where they are, and puts there what it trains.

    Args:
        session: The trial's.
        training: Before its first epoch.
        num_threads: As `train` got it.
    """

    def __init__(self, session: StageSession, training: Training, num_threads: int | None) -> None:
        config = training.config
        self._session, self._training = session, training
        self._keys = epoch_keys(
            config, training.splits.fingerprint, device=training.device, num_threads=num_threads
        )
        self._staying = session.staying(config)
        self._epochs: list[dict[str, object]] = []  # as stored, with who trained each
        self._owners: list[str] = []
        self._claimed: str | None = None
        self._rolling: str | None = None  # what the next checkpoint replaces

    def stage_end(self, epoch: int) -> int:
        """Return the next epoch after `epoch` whose checkpoint stays."""
        return _next(self._staying, epoch)

    def take_up(self) -> list[EpochResult]:
        """Claim what is to be trained next, and take up the longest stored beginning.

        Returns the results of the epochs that this adds.

        Raises:
            StageBusy: Another live owner has claimed it; nothing was taken up.
            StoreError: A checkpoint does not fit this training; it was removed.
        """
        begun, damaged = len(self._epochs), set[str]()
        try:
            while True:
                found = max(begun, self._session.store.longest(self._keys, without=damaged))
                if found < len(self._keys):
                    self._claim(self._keys[self.stage_end(found) - 1])
                    if self._session.store.longest(self._keys, without=damaged) > found:
                        continue  # whoever held the claim has just ended the stage
                if found == begun:
                    return []
                data = self._session.store.get(self._keys[found - 1])
                if data is not None:
                    break
                damaged.add(self._keys[found - 1])
        except StoreError as error:
            self._session.note(error)
            return []
        except StageBusy:
            if begun and not self._session.store.has(self._keys[begun - 1]):
                return []  # what was trained so far is stored nowhere: go on with it
            raise
        self._load(data, found)
        return [self._result(epoch) for epoch in range(begun + 1, found + 1)]

    def _result(self, epoch: int) -> EpochResult:
        return EpochResult.taken_up(
            self._epochs[epoch - 1],
            num_epochs=len(self._keys),
            is_float=self._training.is_float,
            restored=self._owners[epoch - 1] != self._session.owner,
        )

    def _load(self, data: bytes, epoch: int) -> None:
        key, store = self._keys[epoch - 1], self._session.store
        try:
            content = from_bytes(data)
            self._training.load_state_dict(content["state"])
            self._epochs, self._owners = content["epochs"], content["owners"]
            if not len(self._epochs) == len(self._owners) == epoch:
                raise ValueError(f"{len(self._epochs)} epochs instead of {epoch}")
        except (KeyError, TypeError, ValueError, RuntimeError, QuantizationError) as error:
            store.remove(key)
            reason = " ".join(str(error).split())
            raise StoreError(
                f"stage {key[:12]} in {store.place} did not fit and was removed: {reason} The same "
                "training again goes on without it."
            ) from error
        try:
            if epoch not in self._staying and self._owners[-1] == self._session.owner:
                self._rolling = key
            if epoch in self._staying and not store.has(key, staying=True):
                store.put(key, data)  # another training is about to replace the one that was read
        except StoreError as error:
            self._session.note(error)

    def save(self, result: EpochResult) -> None:
        """Store the checkpoint of the epoch just trained."""
        self._epochs.append(result.stored())
        self._owners.append(self._session.owner)
        key, stays = self._keys[result.epoch - 1], result.epoch in self._staying
        store = self._session.store
        try:
            if store.wants(key):
                content = {
                    "epochs": self._epochs,
                    "owners": self._owners,
                    "state": self._training.state_dict(result.epoch),
                }
                store.put(key, to_bytes(content), rolling=not stays)
            if self._rolling is not None:
                store.remove(self._rolling, rolling=True)
            self._rolling = None if stays else key
        except StoreError as error:
            self._session.note(error)
        if stays:
            self.release()

    def _claim(self, key: str) -> None:
        if key == self._claimed:
            return
        self.release()
        if not self._session.store.claim(key, self._session.owner):
            raise StageBusy(key, self._session.store.holder(key) or "another training")
        self._claimed = key

    def release(self) -> None:
        """Give the claim back, if there is one."""
        key, self._claimed = self._claimed, None
        if key is not None:
            try:
                self._session.store.release(key, self._session.owner)
            except StoreError as error:
                self._session.note(error)
