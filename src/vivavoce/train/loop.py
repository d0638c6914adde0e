"""One loop for every model here: a task yields objectives, the loop descends them in turn."""

from __future__ import annotations

import importlib
import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vivavoce.errors import InputError
from vivavoce.train.report import Report, journal, silent
from vivavoce.train.state import Progress, State, read_checkpoint
from vivavoce.train.tasks import Objective, Task

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A run, complete. Facts of the machine and of the day (where, resume) are not in it."""

    name: str
    task: Callable[[], Task]
    data: Callable[[int], Callable[[int], Any]]  # seed -> (step -> batch): a batch is a function of its place
    steps: int
    lr: Mapping[str, float]  # peak learning rate of each player
    warm_up: int = 0  # steps until the peak
    lr_floor: float = 0.02  # share of the peak that the cosine ends at
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 1.0
    ema: float = 0.0  # decay of the averaged weights that are judged and exported; 0 = the weights themselves
    bf16: bool = False  # forward passes in bfloat16 where autocast deems it safe
    judge_every: int = 0  # steps between looks at held-back data; 0 = never
    keep: str = ""  # figure of ``Task.judge`` whose best weights are exported; "" = export the last
    save_minutes: float = 2.0  # time between checkpoints
    seed: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)  # for the card: what the data is, where it comes from


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedForm:
    """A recipe that is solved at once, by linear algebra: there is nothing to resume."""

    name: str
    solve: Callable[[Path], Mapping[str, Any]]  # writes its weights into the folder, tells facts for the card


def rate(recipe: Recipe, step: int) -> float:
    """Factor of the learning rate at ``step``: a linear warm-up, then a cosine down to ``lr_floor``."""
    warm = min(1.0, (step + 1) / recipe.warm_up) if recipe.warm_up else 1.0
    done = max(0.0, step - recipe.warm_up) / max(1, recipe.steps - recipe.warm_up)
    return warm * (recipe.lr_floor + (1 - recipe.lr_floor) * (1 + math.cos(math.pi * done)) / 2)


def fit(recipe: Recipe, *, out: Path | None = None, resume: bool = False, report: Report | None = None) -> Task:
    """Train ``recipe`` and return its task with the final weights in place.

    With ``out``, checkpoints go there and ``resume`` goes on from the last one: every random number is a function
    of (seed, step), so an interrupted run ends at the same weights, bit for bit on one machine, as one that was not.
    """
    torch.manual_seed(recipe.seed)
    task = recipe.task()
    players = task.players()
    if missing := players.keys() ^ recipe.lr.keys():
        raise InputError(f"recipe {recipe.name!r}: players and learning rates differ in {sorted(missing)}")
    state = State(Progress(recipe.name), players, {n: _optimizer(recipe, n, net) for n, net in players.items()})
    checkpoint = out / CHECKPOINT if out else None
    if checkpoint and resume and checkpoint.exists():
        state.load(checkpoint)
    else:
        state.follow(0.0)
    if report is None:
        report = journal(out / "log.jsonl", recipe.steps, start=state.progress.step) if out else silent
    _descend(recipe, task, state, checkpoint, report)
    _place(players, state.kept or state.average)
    return task


def _optimizer(recipe: Recipe, name: str, net: nn.Module) -> torch.optim.Optimizer:
    # Gains, biases, nulls and embeddings of one row are not decayed: shrinking them is not regularisation.
    learned = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learned if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learned if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.lr[name], betas=recipe.betas)


def _descend(recipe: Recipe, task: Task, state: State, checkpoint: Path | None, report: Report) -> None:
    batch_at, progress = recipe.data(recipe.seed), state.progress
    began, saved = time.monotonic() - progress.seconds, time.monotonic()
    while progress.step < recipe.steps:
        figures = _step(recipe, task, state, batch_at(progress.step))
        state.follow(recipe.ema)
        if recipe.judge_every and (progress.step + 1) % recipe.judge_every == 0:
            figures |= _judge(recipe, task, state)
        report(progress.step, figures)
        progress.step += 1
        progress.seconds = time.monotonic() - began
        if checkpoint and (progress.step == recipe.steps or time.monotonic() - saved >= 60 * recipe.save_minutes):
            state.save(checkpoint)
            saved = time.monotonic()


def _step(recipe: Recipe, task: Task, state: State, batch: object) -> dict[str, float]:
    step, figures = state.progress.step, {}
    rng = torch.Generator().manual_seed(mixed(recipe.seed, step, 1))
    torch.manual_seed(mixed(recipe.seed, step, 2))  # for dropout inside the networks
    objectives = iter(task.objectives(batch, rng))
    while (objective := _next(objectives, bf16=recipe.bf16)) is not None:
        name, optimizer = objective.name, state.optimizers[objective.name]
        figures |= {name: float(objective.loss.detach()), **(objective.notes or {})}
        if not math.isfinite(figures[name]):
            raise FloatingPointError(f"the loss of {name!r} is {figures[name]} at step {step} of {recipe.name!r}")
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr[name] * rate(recipe, step)
        optimizer.zero_grad(set_to_none=True)
        objective.loss.backward()
        nn.utils.clip_grad_norm_(state.players[name].parameters(), recipe.clip_norm)
        optimizer.step()
    return figures


def _next(objectives: Iterator[Objective], *, bf16: bool) -> Objective | None:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return next(objectives, None)


def _judge(recipe: Recipe, task: Task, state: State) -> dict[str, float]:
    with _final_weights(state):
        figures = dict(task.judge())
    if recipe.keep:
        if recipe.keep not in figures:
            raise InputError(f"recipe {recipe.name!r} keeps {recipe.keep!r}, but the task judges {sorted(figures)}")
        if state.progress.best is None or figures[recipe.keep] > state.progress.best:
            state.progress.best, state.progress.best_step = figures[recipe.keep], state.progress.step
            state.keep()
    return figures


@contextmanager
def _final_weights(state: State) -> Iterator[None]:
    """Inside, the players hold the averaged weights and are in evaluation mode; no gradients are recorded."""
    training = {name: {k: v.clone() for k, v in net.state_dict().items()} for name, net in state.players.items()}
    modes = {module: module.training for net in state.players.values() for module in net.modules()}
    _place(state.players, state.average)
    try:
        with torch.no_grad():
            yield
    finally:
        _load(state.players, training)
        for module, mode in modes.items():
            module.training = mode


def _place(players: Mapping[str, nn.Module], weights: Mapping[str, dict[str, torch.Tensor]]) -> None:
    _load(players, weights)
    for net in players.values():
        net.eval()


def _load(players: Mapping[str, nn.Module], weights: Mapping[str, dict[str, torch.Tensor]]) -> None:
    for name, net in players.items():
        net.load_state_dict(weights[name])


def mixed(*numbers: int) -> int:
    """One 32-bit seed from several numbers (torch's CPU generator only looks at 32 bits of what it is given)."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def load(address: str) -> Recipe | ClosedForm:
    """The recipe called ``address``: a short name listed in :mod:`vivavoce.recipes`, or ``module:function``.

    Raises :class:`InputError` for an address that names nothing, saying which recipes exist.
    """
    from vivavoce.recipes import RECIPES

    if ":" not in address and address not in RECIPES:
        raise InputError(f"there is no recipe called {address!r}; there are {', '.join(RECIPES)}, or MODULE:FUNCTION")
    module_name, _, function = RECIPES.get(address, address).partition(":")
    try:
        found = vars(importlib.import_module(module_name))
    except ModuleNotFoundError as error:
        raise InputError(f"recipe {address!r} cannot be found: {error}") from None
    if not callable(found.get(function)):
        known = [n for n, v in found.items() if n[0] != "_" and callable(v) and v.__module__ == module_name]
        raise InputError(f"{module_name} has no recipe {function!r}; it has {', '.join(sorted(known))}")
    recipe = found[function]()
    if not isinstance(recipe, Recipe | ClosedForm):
        raise InputError(f"{module_name}:{function} is not a recipe")
    return recipe


def run(address: str, out: Path, resume: bool = False) -> None:
    """Train the recipe at ``address`` into ``out``: ``log.jsonl``, a checkpoint, the weights and ``card.json``.

    Raises :class:`InputError` when the recipe does not exist, or ``out`` already holds a run and ``resume`` is not
    given. ``resume`` on an empty folder starts from the beginning, so one command line serves both.
    """
    recipe = load(address)
    if (out / CHECKPOINT).exists() and not resume:
        raise InputError(f"{out} already holds a training run; resume it, or choose another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror}") from None
    if isinstance(recipe, ClosedForm):
        began = time.monotonic()
        told = recipe.solve(out)
        card = {"recipe": recipe.name, "minutes": round((time.monotonic() - began) / 60, 1), **_machine(), **told}
    else:
        task = fit(recipe, out=out, resume=resume)
        progress, _ = read_checkpoint(out / CHECKPOINT)
        with torch.no_grad():
            told = task.export(out)
        card = {**_facts(recipe, progress), **recipe.facts, **told}
    part = out / "card.json.part"
    part.write_text(json.dumps(card, indent=2) + "\n")
    part.replace(out / "card.json")


def _facts(recipe: Recipe, progress: Progress) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "steps": progress.step,
        "exported_step": progress.best_step if recipe.keep and progress.best is not None else progress.step - 1,
        "minutes": round(progress.seconds / 60, 1),
        **_machine(),
    }


def _machine() -> dict[str, str]:
    return {
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} thread(s), CPU",
        "torch": torch.__version__.split("+")[0],
    }
