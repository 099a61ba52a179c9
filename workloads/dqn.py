"""A small deep Q-network (Mnih et al., Nature 518, 2015) over a short sequence of choices with a reward at the end.

Replay, a target network, an epsilon that falls over the episodes, seeded; the learning curve is kept. Choices with one
option are made without learning. Used by offline halves; knows nothing of networks or devices.
"""
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

Choice = tuple[int, ...]
HIDDEN, LR, BATCH, REPLAY, TARGET_EVERY = 64, 2e-3, 32, 4096, 40
EPSILON_END, EPSILON_SHARE = 0.05, 0.6          # epsilon falls from 1 to EPSILON_END over this share of the episodes


class Learned(NamedTuple):
    """`best` was seen in the search; `greedy` is where the learned values lead without chance."""

    best: Choice
    reward: float
    best_episode: int                           # from 1
    greedy: Choice
    curve: tuple[tuple[int, float, float], ...]     # episode, its reward, the best so far


class _Step(NamedTuple):
    before: Choice
    option: int
    after: Choice
    reward: float                               # 0 but for the last


def learn(sizes: Sequence[int], allowed: Callable[[Choice], Sequence[int]], reward: Callable[[Choice], float],
          episodes: int, seed: int, told: Callable[[int], None] = lambda _: None, first: Choice = ()) -> Learned:
    """Search for the choice of greatest reward. `sizes` = options of each choice; rewards of about -1..1 suit it.

    The first episode goes by `first`, as far as that reaches: what is known to be worth a look.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        agent = _Agent(sizes, allowed)
    rng = np.random.default_rng([seed, 1])
    curve: list[tuple[int, float, float]] = []
    best, best_reward, best_episode = (), float("-inf"), 0  # type: Choice, float, int
    for episode in range(1, episodes + 1):
        epsilon = max(EPSILON_END, 1.0 - (1.0 - EPSILON_END) * (episode - 1) / max(1.0, EPSILON_SHARE * episodes))
        steps = agent.play(epsilon, rng, first if episode == 1 else ())
        choice = steps[-1].after if steps else agent.forced(())
        found = reward(choice)
        if found > best_reward:
            best, best_reward, best_episode = choice, found, episode
        curve.append((episode, found, best_reward))
        agent.remember(steps, found)
        for _ in steps:
            agent.improve(rng)
        told(episode)
    steps = agent.play(0.0, rng)
    return Learned(best, best_reward, best_episode, steps[-1].after if steps else best, tuple(curve))


class _Agent:
    """Values of options after a prefix of choices, and what it has seen."""

    def __init__(self, sizes: Sequence[int], allowed: Callable[[Choice], Sequence[int]]) -> None:
        self.sizes, self.allowed = tuple(sizes), allowed
        inputs = len(self.sizes) + sum(self.sizes)
        self.values, self.target = (nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN),
                                                  nn.ReLU(), nn.Linear(HIDDEN, max(self.sizes))) for _ in range(2))
        self.target.load_state_dict(self.values.state_dict())
        self.optimizer = torch.optim.Adam(self.values.parameters(), LR)
        self.replay: deque[_Step] = deque(maxlen=REPLAY)
        self.updates = 0
        # Few prefixes come again and again, and making their tensors took longer than learning from them.
        self._states: dict[Choice, torch.Tensor] = {}
        self._masks: dict[Choice, torch.Tensor] = {}

    def forced(self, prefix: Choice) -> Choice:
        """`prefix` and all that follows without a choice."""
        while len(prefix) < len(self.sizes) and len(self.allowed(prefix)) == 1:
            prefix = (*prefix, self.allowed(prefix)[0])
        return prefix

    def play(self, epsilon: float, rng: np.random.Generator, led: Choice = ()) -> list[_Step]:
        """One episode, its beginning `led`; its rewards are filled in by remember()."""
        steps, before = [], self.forced(())
        while len(before) < len(self.sizes):
            options = self.allowed(before)
            if len(before) < len(led):
                option = led[len(before)]
            elif rng.random() < epsilon:
                option = int(rng.choice(list(options)))
            else:
                with torch.no_grad():
                    option = int((self.values(self._state(before)) + self._mask(before)).argmax())
            after = self.forced((*before, option))
            steps.append(_Step(before, option, after, 0.0))
            before = after
        return steps

    def remember(self, steps: Sequence[_Step], reward: float) -> None:
        self.replay.extend(step._replace(reward=reward if step is steps[-1] else 0.0) for step in steps)

    def improve(self, rng: np.random.Generator) -> None:
        """One step of gradient descent on a batch of the replay."""
        batch = [self.replay[index] for index in rng.integers(len(self.replay), size=BATCH)]
        with torch.no_grad():
            after = self.target(torch.stack([self._state(step.after) for step in batch]))
            after = (after + torch.stack([self._mask(step.after) for step in batch])).max(1).values
            last = torch.tensor([len(step.after) == len(self.sizes) for step in batch])
            wanted = torch.where(last, torch.tensor([step.reward for step in batch]), after)
        values = self.values(torch.stack([self._state(step.before) for step in batch]))
        found = values.gather(1, torch.tensor([[step.option] for step in batch]))[:, 0]
        loss = F.smooth_l1_loss(found, wanted)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.updates += 1
        if self.updates % TARGET_EVERY == 0:
            self.target.load_state_dict(self.values.state_dict())

    def _state(self, prefix: Choice) -> torch.Tensor:
        """Which choice is next, and each choice so far, one-hot."""
        if prefix in self._states:
            return self._states[prefix]
        x, place = torch.zeros(len(self.sizes) + sum(self.sizes)), len(self.sizes)
        if len(prefix) < len(self.sizes):
            x[len(prefix)] = 1.0
        for size, option in zip(self.sizes, prefix, strict=False):
            x[place + option] = 1.0
            place += size
        self._states[prefix] = x
        return x

    def _mask(self, prefix: Choice) -> torch.Tensor:
        """0 for options that may be taken, -inf for others; 0 throughout at the end, where nothing follows."""
        if prefix in self._masks:
            return self._masks[prefix]
        mask = torch.zeros(max(self.sizes))
        if len(prefix) < len(self.sizes):
            mask[:] = float("-inf")
            mask[list(self.allowed(prefix))] = 0.0
        self._masks[prefix] = mask
        return mask
