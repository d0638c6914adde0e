"""Train the phone encoder on synthetic speech with exact labels, and on real speech where labels were guessed.

``vivavoce train phones --out DIR`` synthesises the corpus on first use into the folder named by the environment
variable ``VIVAVOCE_SPEECH`` (default ``runs/speech``). When ``VIVAVOCE_DATA`` names a folder of recordings (see
:mod:`vivavoce.data.clips`), the phones of its training split are guessed once, kept beside it, and join in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vivavoce import weights
from vivavoce.speech import mixing, phones
from vivavoce.speech.corpus import UNKNOWN, Corpus, synthesise
from vivavoce.speech.labelling import label
from vivavoce.speech.mel import Level, normalised
from vivavoce.speech.network import PhoneConfig, PhoneNetwork
from vivavoce.train.loop import Recipe
from vivavoce.train.tasks import Objective

FOLDER, DATA = "VIVAVOCE_SPEECH", "VIVAVOCE_DATA"
PIECES = {  # file -> (minutes, seed, kept out of training, natural voices)
    **{f"espeak{n}": (20.0 + 10 * (n > 2) + 10 * (n > 4), 10 + n, False, False) for n in range(6)},
    **{f"flite{n}": (10.0, 20 + n, False, True) for n in range(4)},
    "unseen": (8.0, 2, True, False),
    "unseen_flite": (4.0, 3, True, True),
}
CONDITIONS: dict[str, float | None] = {"clean": None, "10 dB": 10.0, "0 dB": 0.0}  # speech above noise


@dataclass(frozen=True, slots=True)
class Batch:
    """Normalised, masked log-mel rows and the class of every row (``UNKNOWN`` where nobody knows)."""

    rows: Float[Tensor, "b t 64"]
    classes: Int[Tensor, "b t"]


def folder() -> Path:
    """Where labelled speech is kept on this machine."""
    return Path(os.environ.get(FOLDER, "runs/speech"))


def corpus(*names: str) -> Corpus:
    """Pieces of the synthetic corpus, made first when they are not there."""
    folder().mkdir(parents=True, exist_ok=True)
    loaded = []
    for name in names:
        file = folder() / f"{name}.safetensors"
        if not file.is_file():
            minutes, seed, unseen, natural = PIECES[name]
            synthesise(minutes, seed=seed, unseen=unseen, natural=natural).save(file)
        loaded.append(Corpus.load(file))
    return Corpus.joined(loaded)


def trained_on() -> Corpus:
    """All synthetic speech of the training voices."""
    return corpus(*(name for name in PIECES if not name.startswith("unseen")))


def real() -> Corpus | None:
    """Real speech with guessed labels: what was labelled before, else the recordings of ``VIVAVOCE_DATA``."""
    file, data = folder() / "real.safetensors", os.environ.get(DATA)
    if not file.is_file():
        if data is None:
            return None
        label(Path(data)).save(file)
    return Corpus.load(file)


def batches(
    seed: int, *, sources: Callable[[], list[tuple[Corpus, float]]], size: int = 16, count: int = 400
) -> Callable[[int], Batch]:
    """Step -> batch. ``sources`` gives corpora and the share of excerpts each contributes."""
    pairs = sources()
    bank = mixing.noises(seed)
    shares = np.cumsum([share for _, share in pairs])

    def batch_at(step: int) -> Batch:
        rng = np.random.default_rng([seed, step])
        made = []
        for _ in range(size):
            speech = pairs[int(np.searchsorted(shares, rng.random() * shares[-1]))][0]
            made.append(mixing.heard(rng, speech, bank, count))
        rows = levelled(torch.from_numpy(np.stack([m.rows for m in made])), torch.from_numpy(rng.random(size) < 0.5))
        masked = np.stack([mixing.masked(rng, r) for r in rows.numpy()])
        classes = np.stack([m.classes for m in made]).astype(np.int64)
        return Batch(torch.from_numpy(masked), torch.from_numpy(classes))

    return batch_at


def levelled(rows: Float[Tensor, "b t 64"], warm: Tensor) -> Float[Tensor, "b t 64"]:
    """Run the normaliser; where ``warm``, as if the same had been heard before (the middle of a long talk)."""
    cold, _, after = normalised(rows, Level.start(len(rows)))
    settled, _, _ = normalised(rows, after)
    return torch.where(warm[:, None, None], settled, cold)


def synthetic_and_real() -> list[tuple[Corpus, float]]:
    """Training speech; a third of it real when there is real speech."""
    found = real()
    return [(trained_on(), 1.0)] if found is None else [(trained_on(), 0.65), (found, 0.35)]


@dataclass(frozen=True, slots=True)
class Exam:
    """Excerpts of voices and languages kept out of training, in one noise condition."""

    rows: Float[Tensor, "b t 64"]
    classes: Int[Tensor, "b t"]

    @staticmethod
    def of(speech: Corpus, decibels: float | None, *, size: int = 24, count: int = 600, seed: int = 1234) -> Exam:
        """Unaugmented excerpts, with noise of the bank ``decibels`` under the speech (None: no noise)."""
        rng, bank = np.random.default_rng(seed), mixing.noises(seed)
        said = [mixing.excerpt(rng, speech, count) for _ in range(size)]
        beds = [mixing.noise_bed(rng, bank, speech, count) for _ in said]
        rows = [
            m.rows if decibels is None else mixing.add(m.rows, b, decibels) for m, b in zip(said, beds, strict=True)
        ]
        classes = np.stack([m.classes for m in said]).astype(np.int64)
        return Exam(torch.from_numpy(np.stack(rows)), torch.from_numpy(classes))

    def marks(self, network: PhoneNetwork) -> dict[str, float]:
        """Share of 10 ms rows with the right class, the right visible group, and the right speech-or-silence."""
        rows, _, _ = normalised(self.rows, Level.start(len(self.rows)))
        logits, _, _ = network(rows, network.start(len(rows)))
        guess = logits.argmax(-1).repeat_interleave(2, 1)
        truth = self.classes[:, : guess.shape[1]]
        known = truth != UNKNOWN
        guess, truth = guess[known], truth[known]
        group = torch.tensor(phones.GROUP_OF)
        return {
            "class": float((guess == truth).float().mean()),
            "group": float((group[guess] == group[truth]).float().mean()),
            "silence": float(((guess == phones.SILENCE) == (truth == phones.SILENCE)).float().mean()),
        }


class PhoneTask:
    """Classify every 20 ms row; the classifier is judged on unseen voices and languages.

    ``lips`` is the weight of a row in which lips close or touch the teeth: such rows are few, and seen at once.
    """

    def __init__(self, config: PhoneConfig, exam_speech: Callable[[], Corpus], *, lips: float = 1.0) -> None:
        self.network = PhoneNetwork(config)
        self.importance = torch.tensor([lips if name in "mpbfv" else 1.0 for name in phones.CLASSES])
        speech = exam_speech()
        self.exams = {name: Exam.of(speech, decibels) for name, decibels in CONDITIONS.items()}

    def players(self) -> Mapping[str, nn.Module]:
        """See :class:`vivavoce.train.tasks.Task`."""
        return {"phones": self.network}

    def objectives(self, batch: Batch, rng: torch.Generator) -> Iterator[Objective]:  # noqa: ARG002  (dropout only)
        """See :class:`vivavoce.train.tasks.Task`. A 20 ms row's truth is the classes of its two 10 ms halves."""
        logits, _, _ = self.network(batch.rows, self.network.start(len(batch.rows)))
        truth = batch.classes.unflatten(1, (-1, 2))[:, : logits.shape[1]]
        halves = [
            cross_entropy(logits.mT, truth[..., half], self.importance, ignore_index=UNKNOWN, label_smoothing=0.05)
            for half in (0, 1)
        ]
        yield Objective("phones", (halves[0] + halves[1]) / 2)

    def judge(self) -> Mapping[str, float]:
        """See :class:`vivavoce.train.tasks.Task`."""
        marks = {name: exam.marks(self.network) for name, exam in self.exams.items()}
        figures = {f"{what}, {name}": value for name, each in marks.items() for what, value in each.items()}
        return {**figures, "mean": float(np.mean([each["class"] for each in marks.values()]))}

    def export(self, out: Path) -> Mapping[str, Any]:
        """See :class:`vivavoce.train.tasks.Task`. Half precision: 2 MB, and features equal to the third digit."""
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in self.network.state_dict().items()}
        weights.write(out / "phones.safetensors", tensors, config=asdict(self.network.config))
        return {"parameters": sum(p.numel() for p in self.network.parameters()), "unseen voices": dict(self.judge())}


def learning(seed: int) -> Callable[[int], Batch]:
    """Step -> batch of everything there is to learn from."""
    return batches(seed, sources=synthetic_and_real)


def unseen() -> Corpus:
    """Speech of the languages and voices kept out of training."""
    return corpus("unseen", "unseen_flite")


def main() -> Recipe:
    """The packaged weights."""
    return Recipe(
        name="phones",
        task=partial(PhoneTask, PhoneConfig(), unseen, lips=1.5),
        data=learning,
        steps=3600,
        lr={"phones": 3e-3},
        warm_up=80,
        weight_decay=0.02,
        ema=0.995,
        judge_every=400,
        facts={
            "data": "3.3 h of synthetic speech (espeak-ng: 23 languages; flite: 3 voices), and, as a third of the "
            "excerpts, 17 min of real speech with phones guessed by pocketsphinx"
        },
    )


def synthetic_only() -> Recipe:
    """Without real speech: what the exact labels alone give."""
    return replace(main(), name="phones-synthetic", data=partial(batches, sources=lambda: [(trained_on(), 1.0)]))
