"""The optimisers of the recipes equal hand-written update rules over 12 steps in float64."""

import pytest
import torch

from charlm.recipe import Recipe
from charlm.training.setup import make_optimizer

N_STEPS = 12


class Valley(torch.nn.Module):
    """A curved valley with a different gradient scale for each weight (Rosenbrock)."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([-1.2, 1.0, 0.7, -0.4], dtype=torch.float64))

    def forward(self, decay=0.0):
        w = self.weight
        bent = (1 - w[:-1]) ** 2 + 5 * (w[1:] - w[:-1] ** 2) ** 2
        return bent.sum() + decay / 2 * (w**2).sum()


def sgd(rate, momentum=0.0, decay=0.0):
    """Momentum as a running sum of gradients.

    Polyak (1964), Some methods of speeding up the convergence of iteration methods; in this form Sutskever et al.
    (2013), On the importance of initialization and momentum in deep learning, without the rate inside the sum.
    """
    velocity = 0.0

    def step(weight, gradient):
        nonlocal velocity
        velocity = momentum * velocity + gradient + decay * weight
        return weight - rate * velocity

    return step


def rmsprop(rate, momentum=0.0, decay=0.0, alpha=0.99, epsilon=1e-8):
    """Divide by the root of a running mean of squares. Tieleman and Hinton (2012), Coursera, lecture 6.5."""
    mean_square, velocity = 0.0, 0.0

    def step(weight, gradient):
        nonlocal mean_square, velocity
        gradient = gradient + decay * weight
        mean_square = alpha * mean_square + (1 - alpha) * gradient**2
        velocity = momentum * velocity + gradient / (mean_square**0.5 + epsilon)
        return weight - rate * velocity

    return step


def adam(rate, decay=0.0, decoupled=0.0, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Means of gradient and square, both without the bias towards zero: Kingma and Ba (2014), arXiv:1412.6980.

    With `decoupled` the weights shrink beside the gradient: Loshchilov and Hutter (2017), arXiv:1711.05101.
    """
    mean, mean_square, t = 0.0, 0.0, 0

    def step(weight, gradient):
        nonlocal mean, mean_square, t
        t += 1
        gradient = gradient + decay * weight
        mean = beta1 * mean + (1 - beta1) * gradient
        mean_square = beta2 * mean_square + (1 - beta2) * gradient**2
        unbiased, unbiased_square = mean / (1 - beta1**t), mean_square / (1 - beta2**t)
        return weight - rate * decoupled * weight - rate * unbiased / (unbiased_square**0.5 + epsilon)

    return step


def walk(step):
    """Return the weights after each step of a rule written by hand."""
    valley, path = Valley(), []
    for _ in range(N_STEPS):
        (gradient,) = torch.autograd.grad(valley(), valley.weight)
        with torch.no_grad():
            valley.weight.copy_(step(valley.weight, gradient))
        path.append(valley.weight.detach().clone())
    return torch.stack(path)


def walk_with(make, decay=0.0):
    """Return the weights after each step of an optimiser, `make(model)`; `decay` is L2 in the loss."""
    valley, path = Valley(), []
    optimizer = make(valley)
    for _ in range(N_STEPS):
        optimizer.zero_grad()
        valley(decay).backward()
        optimizer.step()
        path.append(valley.weight.detach().clone())
    return torch.stack(path)


RULES = {
    "sgd": (sgd(0.01), lambda p: torch.optim.SGD(p, 0.01)),
    "momentum": (sgd(0.004, 0.9, 0.1), lambda p: torch.optim.SGD(p, 0.004, momentum=0.9, weight_decay=0.1)),
    "rmsprop": (rmsprop(0.01, 0.5, 0.1), lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.5, weight_decay=0.1)),
    "adam": (adam(0.05, decay=0.1), lambda p: torch.optim.Adam(p, 0.05, weight_decay=0.1)),
    "adamw": (adam(0.05, decoupled=0.1), lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.1)),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_hand_written_rule_equals_that_of_pytorch(rule):
    by_hand, make = RULES[rule]
    torch.testing.assert_close(walk(by_hand), walk_with(lambda m: make(m.parameters())), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"optimizer": "sgd", "momentum": 0.0}, lambda: sgd(0.006, 0.0, 0.03)),
        ({"optimizer": "sgd", "momentum": 0.8}, lambda: sgd(0.006, 0.8, 0.03)),
        ({"optimizer": "rmsprop", "momentum": 0.7}, lambda: rmsprop(0.006, 0.7, 0.03)),
        ({"optimizer": "adam"}, lambda: adam(0.006, decay=0.03)),
        ({"optimizer": "adamw"}, lambda: adam(0.006, decoupled=0.03)),
    ],
)
def test_the_optimiser_uses_the_values_of_the_recipe(changes, rule):
    recipe = Recipe(learning_rate=0.006, weight_decay=0.03, **changes)
    path = walk_with(lambda model: make_optimizer(recipe, model))
    torch.testing.assert_close(path, walk(rule()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam"])
def test_weight_decay_is_l2_in_the_loss(name):
    base = Recipe(optimizer=name, learning_rate=0.006)
    in_loss = walk_with(lambda model: make_optimizer(base, model), decay=0.5)
    in_optimizer = walk_with(lambda model: make_optimizer(base.replace(weight_decay=0.5), model))
    torch.testing.assert_close(in_optimizer, in_loss, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(in_loss, walk_with(lambda model: make_optimizer(base, model)), rtol=1e-4)


def test_decoupled_weight_decay_is_not_l2_in_the_loss():
    base = Recipe(optimizer="adamw", learning_rate=0.006)
    in_loss = walk_with(lambda model: make_optimizer(base, model), decay=0.5)
    decoupled = walk_with(lambda model: make_optimizer(base.replace(weight_decay=0.5), model))
    assert not torch.allclose(decoupled, in_loss, rtol=1e-4)


def test_without_adaptive_rates_decoupled_weight_decay_is_l2_in_the_loss():
    rate, decay = 0.006, 0.5

    def decoupled(weight, gradient):
        return weight - rate * decay * weight - rate * gradient

    torch.testing.assert_close(walk(decoupled), walk(sgd(rate, decay=decay)), rtol=1e-12, atol=1e-12)
