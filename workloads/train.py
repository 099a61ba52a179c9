"""The one training loop: joint training of all branches, or of one branch alone, by the same code.

Joint training follows slimmable networks (Yu, Huang, ICCV 2019): each step trains the full network on the labels, and
the smallest and some random branches on labels and the full network's outputs (sandwich rule, in-place
distillation). Epochs of the full network alone may come first, as in once-for-all networks (Cai et al., ICLR 2020), so
that the teacher knows something when its students begin. Last may come a tail, in which the branches that share most
learn in every step. Deterministic by seed on one machine: an epoch's order and augmentation depend on (seed, epoch)
alone, so that a run resumed from a checkpoint ends like one that was never killed.
Called by build.py. A loss that is not finite is the user's to solve: UserError.
"""
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from device_agents.seams import UserError
from workloads.branches import BranchSpec
from workloads.checkpoint import Run
from workloads.seams import Progress, Report, Split
from workloads.settings import TrainSettings
from workloads.size import measure
from workloads.supernet import SuperNet

#: Of samples, labels, the epoch (from 0) and a source of randomness: the loss, and how many passes it took.
Loss = Callable[[torch.Tensor, torch.Tensor, int, np.random.Generator], tuple[torch.Tensor, int]]
REPORT_EVERY_S = 0.5
TAIL_WARMUP = 0.05                       # share of the tail during which its rate rises


class TrainLog(NamedTuple):
    """What a training run cost. A pass is one sample through one branch, forwards and backwards."""

    epochs: int
    steps: int
    passes: int
    seconds: float
    last_loss: float
    resumed_epoch: int                       # 0 = from the beginning


class Speed(NamedTuple):
    """How this machine trains: chosen once, the same for every branch."""

    device: torch.device
    bf16: bool


def speed() -> Speed:
    """CUDA where present; bf16 on a CPU that multiplies it in matrix tiles.

    A CPU that has it in the vector unit alone (avx512_bf16) trained resnet20 1.2 and resnet18 1.1 times slower in bf16
    than in float32; one that emulates it is slower still.
    """
    if torch.cuda.is_available():
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        return Speed(torch.device("cuda"), torch.cuda.is_bf16_supported())
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        flags = ""
    return Speed(torch.device("cpu"), "amx_bf16" in flags)


def joint_loss(net: SuperNet, shape: tuple[int, ...], settings: TrainSettings) -> Loss:
    """Sandwich rule with in-place distillation, as a loss of one batch, after the epochs of the full branch alone.

    In the tail all exits and widths learn in each step, which share so much of their paths that they cost little, and
    `sampled` operators.
    """
    alone, tail = int(settings.full_share * settings.epochs), _head(settings)
    full, others = net.specs[0], list(net.specs[1:])
    others.sort(key=lambda spec: measure(net.extract(spec), shape).macs)
    plain = [spec for spec in net.specs[1:] if not spec.operators]
    operators = [spec for spec in net.specs[1:] if spec.operators]

    def loss_of(x: torch.Tensor, y: torch.Tensor, epoch: int, rng: np.random.Generator) -> tuple[torch.Tensor, int]:
        chosen: list[BranchSpec] = [full]
        if epoch >= tail:
            picked = rng.permutation(len(operators))[:settings.sampled]
            chosen += [*plain, *(operators[index] for index in sorted(picked))]
        elif others and epoch >= alone:
            picked = rng.permutation(len(others) - 1)[:settings.sampled] + 1
            chosen += [others[0], *(others[index] for index in sorted(picked))]
        logits = net(x, chosen)
        loss = F.cross_entropy(logits["full"].float(), y, label_smoothing=settings.label_smoothing)
        teacher = F.softmax(logits["full"].float().detach(), dim=1)
        for spec in chosen[1:]:
            student = logits[spec.id].float()
            hard = F.cross_entropy(student, y, label_smoothing=settings.label_smoothing)
            soft = F.cross_entropy(student, teacher)
            weight = settings.tail_weight * (2 if spec.operators else 1) if epoch >= tail else settings.branch_weight
            loss = loss + weight * ((1 - settings.distill) * hard + settings.distill * soft)
        return loss, len(chosen) * len(y)

    return loss_of


def alone_loss(net: SuperNet, spec: BranchSpec, settings: TrainSettings) -> Loss:
    """Cross-entropy of one branch on the labels; weights that it does not use stay as they are."""
    def loss_of(x: torch.Tensor, y: torch.Tensor, _epoch: int, _rng: np.random.Generator) -> tuple[torch.Tensor, int]:
        return F.cross_entropy(net(x, [spec])[spec.id].float(), y, label_smoothing=settings.label_smoothing), len(y)

    return loss_of


def fit(net: nn.Module, loss_of: Loss, data: Split, settings: TrainSettings, seed: int, report: Report,
        checkpoint: Path | None = None, augment: dict[str, Any] | None = None,
        stop: Callable[[int], bool] | None = None) -> TrainLog:
    """Train `net` in place and leave it on the CPU in eval mode.

    `checkpoint` is read when it exists, written now and then, and removed by the caller. `stop(epoch)` ends early.
    Raises UserError when the loss is not finite.
    """
    machine = speed()
    net.to(machine.device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(_groups(net, settings.weight_decay), lr=settings.lr, momentum=settings.momentum,
                                nesterov=settings.momentum > 0)
    state = Run(net, optimizer, checkpoint)
    began, first = time.monotonic(), state.resume()
    clock = _Rate(settings.epochs * len(data.y), first * len(data.y), report)
    steps_an_epoch = -(-len(data.y) // settings.batch)
    for epoch in range(first, settings.epochs):
        rng = np.random.default_rng([seed, epoch])
        if epoch == _head(settings):
            optimizer.state.clear()             # a momentum of another rate
        for number, (x, y) in enumerate(batches(data, settings, epoch, rng, machine.device, augment)):
            _set_lr(optimizer, settings, epoch * steps_an_epoch + number, steps_an_epoch)
            with torch.autocast(machine.device.type, dtype=torch.bfloat16, enabled=machine.bf16):
                loss, passes = loss_of(x, y, epoch, rng)
            state.last_loss = _finite(loss, epoch, number, settings)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), settings.clip)
            optimizer.step()
            state.steps, state.passes = state.steps + 1, state.passes + passes
            clock.tick(len(y), f"epoch {epoch + 1}/{settings.epochs}, loss {state.last_loss:.3f}")
        state.epochs = epoch + 1
        state.seconds = state.seconds_before + time.monotonic() - began
        state.save()
        if stop is not None and stop(epoch + 1):
            break
    net.to("cpu", memory_format=torch.contiguous_format).eval()
    return TrainLog(state.epochs, state.steps, state.passes, state.seconds, state.last_loss, first)


def batches(data: Split, settings: TrainSettings, epoch: int, rng: np.random.Generator, device: torch.device,
            augment: dict[str, Any] | None) -> "Sequence[tuple[torch.Tensor, torch.Tensor]] | Any":
    """One epoch's batches in random order, augmented, at half resolution during the first `half_epochs`."""
    order = rng.permutation(len(data.y))
    for start in range(0, len(order), settings.batch):
        rows = order[start:start + settings.batch]
        x = torch.from_numpy(augmented(data.x[rows], augment or {}, rng))
        if epoch < settings.half_epochs:
            x = F.avg_pool2d(x, tuple(2 if size > 1 else 1 for size in x.shape[2:]))
        yield (x.to(device, memory_format=torch.channels_last), torch.from_numpy(data.y[rows]).to(device))


def augmented(x: "np.ndarray[Any, np.dtype[np.float32]]", augment: dict[str, Any],
              rng: np.random.Generator) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Random shifts (edges repeat) and mirror images of a batch (n, c, h, w), as the task asks for."""
    count, shift = len(x), int(augment.get("shift", 0))
    if shift:
        for axis in (2, 3):
            size = x.shape[axis]
            if size == 1:
                continue
            at = np.clip(np.arange(size) + rng.integers(-shift, shift + 1, (count, 1)), 0, size - 1)
            x = np.take_along_axis(x, at[:, None, :, None] if axis == 2 else at[:, None, None, :], axis)
    if augment.get("flip"):
        mirrored = rng.random(count) < 0.5
        x = np.where(mirrored[:, None, None, None], x[..., ::-1], x)
    return np.ascontiguousarray(x)


@torch.no_grad()
def recalibrate(net: nn.Module, data: Split, batch: int = 128, limit: int = 4096) -> None:
    """Recompute a plain network's BatchNorm statistics from unaugmented training samples, in place.

    Joint training leaves running averages that mix all branches; each branch needs those of its own activations.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None                    # a plain average over the batches
    net.train()
    # Strided, because a data set may be sorted by class; equal batches, because the average weighs batches equally.
    rows = np.linspace(0, len(data.y) - 1, min(limit, len(data.y))).astype(int)
    rows = rows[:max(1, len(rows) // batch) * batch]
    rows = np.random.default_rng(0).permutation(rows)
    for start in range(0, len(rows), batch):
        net(torch.from_numpy(data.x[rows[start:start + batch]]))
    net.eval()


@torch.no_grad()
def accuracy(net: nn.Module, data: Split, batch: int = 256) -> float:
    """Share of samples whose largest logit is the label's, 0..1, in float32."""
    net.eval()
    right, device = 0, next(net.parameters()).device
    for start in range(0, len(data.y), batch):
        logits = net(torch.from_numpy(data.x[start:start + batch]).to(device))
        right += int((logits.argmax(1).cpu().numpy() == data.y[start:start + batch]).sum())
    return right / len(data.y)


class _Rate:
    """Progress with rate and time left, a few times a second at most."""

    def __init__(self, total: int, done: int, report: Report) -> None:
        self.total, self.done, self.start_done, self.report = total, done, done, report
        self.start = self.told = time.monotonic()

    def tick(self, samples: int, note: str) -> None:
        self.done += samples
        now = time.monotonic()
        if now - self.told < REPORT_EVERY_S and self.done < self.total:
            return
        self.told = now
        per_s = (self.done - self.start_done) / max(1e-9, now - self.start)
        self.report(Progress("train", self.done, self.total, per_s, (self.total - self.done) / per_s, note))


def _groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on weights only: on BatchNorm and biases it would hurt the narrow branches most."""
    matrices = [parameter for parameter in net.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in net.parameters() if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _head(settings: TrainSettings) -> int:
    """Epochs before the tail."""
    return max(0, settings.epochs - settings.tail_epochs)


def _set_lr(optimizer: torch.optim.Optimizer, settings: TrainSettings, step: int, steps_an_epoch: int) -> None:
    """Linear warm-up over the first `warmup` of the run, then a half cosine to zero; the same again in the tail."""
    head, whole = _head(settings) * steps_an_epoch, settings.epochs * steps_an_epoch
    if step < head:
        peak, warmup, done = settings.lr, settings.warmup, step / head
    else:
        peak, warmup, done = settings.tail_lr, TAIL_WARMUP, (step - head) / (whole - head)
    if done < warmup:
        factor = (done + 1e-3) / (warmup + 1e-3)
    else:
        factor = 0.5 * (1 + float(np.cos(np.pi * (done - warmup) / (1 - warmup))))
    for group in optimizer.param_groups:
        group["lr"] = peak * factor


def _finite(loss: torch.Tensor, epoch: int, step: int, settings: TrainSettings) -> float:
    value = float(loss.detach())
    if not np.isfinite(value):
        raise UserError(f"training diverged: the loss is {value} in epoch {epoch + 1}, step {step + 1}. "
                        f"Lower training.lr (now {settings.lr}) or raise training.warmup (now {settings.warmup})")
    return value
