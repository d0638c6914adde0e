"""One loop for every model here: a task yields objectives, the loop descends them in turn."""

from __future__ import annotations

import importlib
import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vivavoce.errors import InputError
from vivavoce.train.crew import Crew, crew, moved
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
    accumulate: int = 1  # batches in each process whose gradients make one step; their graphs of one player add up
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

    Started by ``accelerate launch``, all processes descend together: a step takes as many batches as there are
    processes (times ``recipe.accumulate``), and the first process writes. A run in n processes is the run in one that
    accumulates n batches, but for rounding, and for batch norms, which see the batches of their own process.
    """
    together = crew()
    torch.manual_seed(recipe.seed)
    task = recipe.task()
    players = {name: net.to(together.device) for name, net in task.players().items()}
    if missing := players.keys() ^ recipe.lr.keys():
        raise InputError(f"recipe {recipe.name!r}: players and learning rates differ in {sorted(missing)}")
    state = State(Progress(recipe.name), players, {n: _optimizer(recipe, n, net) for n, net in players.items()})
    checkpoint = out / CHECKPOINT if out else None
    if checkpoint and resume and checkpoint.exists():
        state.load(checkpoint)
    else:
        state.follow(0.0)
    if report is None:
        writes = out if together.leads else None
        report = journal(writes / "log.jsonl", recipe.steps, start=state.progress.step) if writes else silent
    _descend(_Run(recipe, task, state, together), checkpoint if together.leads else None, report)
    together.wait()
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


@dataclass(frozen=True, slots=True)
class _Run:
    """What every part of the loop needs."""

    recipe: Recipe
    task: Task
    state: State
    crew: Crew

    def rng(self, place: int) -> torch.Generator:
        return torch.Generator(self.crew.device).manual_seed(mixed(self.recipe.seed, place, 1))

    @contextmanager
    def computing(self, *, bf16: bool) -> Iterator[None]:
        """Inside, new tensors are on the run's device."""
        device = self.crew.device
        here = nullcontext() if device.type == "cpu" else device
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16), here:
            yield


def _descend(run: _Run, checkpoint: Path | None, report: Report) -> None:
    recipe, state, progress = run.recipe, run.state, run.state.progress
    batch_at = recipe.data(recipe.seed)
    began, saved = time.monotonic() - progress.seconds, time.monotonic()
    while progress.step < recipe.steps:
        figures = _step(run, batch_at)
        state.follow(recipe.ema)
        if recipe.judge_every and (progress.step + 1) % recipe.judge_every == 0:
            figures |= _judge(run)
        report(progress.step, figures)
        progress.step += 1
        progress.seconds = time.monotonic() - began
        if checkpoint and (progress.step == recipe.steps or time.monotonic() - saved >= 60 * recipe.save_minutes):
            state.save(checkpoint)
            saved = time.monotonic()


@dataclass(slots=True)
class _Turn:
    """One batch of a step, on its way through the players' objectives."""

    place: int
    objectives: Iterator[Objective]
    done: int = 0


def _step(run: _Run, batch_at: Callable[[int], Any]) -> dict[str, float]:
    turns, figures = [], {}
    for place in run.crew.places(run.state.progress.step, run.recipe.accumulate):
        batch = moved(batch_at(place), run.crew.device)
        turns.append(_Turn(place, iter(run.task.objectives(batch, run.rng(place)))))
    while told := _round(run, turns):
        figures |= told
    run.crew.average_buffers(run.state.players.values())
    return figures


def _round(run: _Run, turns: list[_Turn]) -> dict[str, float]:
    """The next objective of every batch: their mean is descended by one step of its player. Empty when all are done."""
    recipe, state, told = run.recipe, run.state, {}
    name = ""
    for turn in turns:
        objective = _next(run, turn)
        if objective is None:
            return {}
        if not name:
            name = objective.name
            state.optimizers[name].zero_grad(set_to_none=True)
        (objective.loss / len(turns)).backward()
        for figure, value in {name: float(objective.loss.detach()), **(objective.notes or {})}.items():
            told[figure] = told.get(figure, 0.0) + value / len(turns)
    told = run.crew.average_figures(told)
    step, optimizer, player = state.progress.step, state.optimizers[name], state.players[name]
    if not math.isfinite(told[name]):
        raise FloatingPointError(f"the loss of {name!r} is {told[name]} at step {step} of {recipe.name!r}")
    for group in optimizer.param_groups:
        group["lr"] = recipe.lr[name] * rate(recipe, step)
    run.crew.average_gradients(player)
    nn.utils.clip_grad_norm_(player.parameters(), recipe.clip_norm)
    optimizer.step()
    return told


def _next(run: _Run, turn: _Turn) -> Objective | None:
    # For dropout inside the networks: every batch has its own chance, whichever process it is in.
    torch.manual_seed(mixed(run.recipe.seed, turn.place, 2 + turn.done))
    turn.done += 1
    with run.computing(bf16=run.recipe.bf16 or run.crew.bf16):
        return next(turn.objectives, None)


def _judge(run: _Run) -> dict[str, float]:
    recipe, state = run.recipe, run.state
    with _final_weights(state), run.computing(bf16=False):
        figures = dict(run.task.judge())
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
    recipe, together = load(address), crew()
    if (out / CHECKPOINT).exists() and not resume:
        raise InputError(f"{out} already holds a training run; resume it, or choose another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {out}: {error.strerror}") from None
    if isinstance(recipe, ClosedForm):
        if not together.leads:
            return
        began = time.monotonic()
        told = recipe.solve(out)
        card = {
            "recipe": recipe.name,
            "minutes": round((time.monotonic() - began) / 60, 1),
            **_machine(together),
            **told,
        }
    else:
        task = fit(recipe, out=out, resume=resume)
        if not together.leads:
            return
        progress, _ = read_checkpoint(out / CHECKPOINT)
        with torch.no_grad():
            told = task.export(out)
        card = {**_facts(recipe, progress), **_machine(together), **recipe.facts, **told}
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
    }


def _machine(together: Crew) -> dict[str, str]:
    device = "CPU" if together.device.type == "cpu" else torch.cuda.get_device_name(together.device)
    processes = f", {together.size} processes" if together.size > 1 else ""
    return {
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} thread(s), {device}{processes}",
        "torch": torch.__version__.split("+")[0],
    }
