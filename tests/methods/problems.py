"""Small bilevel problems with known solutions."""

import torch

DIM, RANK = 10, 5


def start(seed=1, bound=5.0):
    """Return a start for u and for v."""
    drawn = torch.Generator().manual_seed(seed)
    return [[bound * (2 * torch.rand(DIM, generator=drawn) - 1)] for _ in range(2)]


def distance(minimum, solution):
    """Return the distance of u and v to a solution that is the same in every coordinate."""
    return (torch.cat([*minimum.u, *minimum.v]) - solution).norm().item()


class Plain:
    """Example 1 of Mehra and Hamm: f = ||u||^2 + ||v||^2, g = ||1 - u - v||^2; u = v = 0.5."""

    solution = 0.5

    def upper(self, u, v):
        return u[0].square().sum() + v[0].square().sum()

    def lower(self, u, v):
        return (1 - u[0] - v[0]).square().sum()


class Saddle:
    """Example 2: f = ||v||^2 - ||u - v||^2, g = ||u - v||^2; u = v = 0, a saddle of f."""

    solution = 0.0

    def upper(self, u, v):
        return v[0].square().sum() - (u[0] - v[0]).square().sum()

    def lower(self, u, v):
        return (u[0] - v[0]).square().sum()


class Singular(Plain):
    """Example 3: g = ||A (1 - u - v)||^2 with A of five rows and ten columns: its Hessian is singular."""

    def __init__(self):
        self.a = torch.linalg.qr(torch.randn(DIM, RANK, generator=torch.Generator().manual_seed(0)))[0].T

    def lower(self, u, v):
        return (self.a @ (1 - u[0] - v[0])).square().sum()

    def distance(self, minimum):
        """Return the distance to the solution in the row space of A, where it is unique."""
        return torch.cat([self.a @ (x[0] - self.solution) for x in (minimum.u, minimum.v)]).norm().item()


class Quadratic:
    """A strongly convex lower problem with six variables, in float64: v*(u) = H^-1 C u."""

    def __init__(self):
        drawn = torch.Generator().manual_seed(0)
        a, self.c = torch.randn(2, 6, 6, generator=drawn, dtype=torch.float64)
        self.h = a @ a.T / 6 + torch.eye(6, dtype=torch.float64)
        self.target, self.u = torch.randn(2, 6, generator=drawn, dtype=torch.float64)

    def upper(self, u, v):
        return (v[0] - self.target).square().sum() / 2 + 0.1 * u[0].square().sum()

    def lower(self, u, v):
        return v[0] @ self.h @ v[0] / 2 - v[0] @ self.c @ u[0]

    def solution_of_lower(self, u):
        """Return v*(u)."""
        return torch.linalg.solve(self.h, self.c @ u)

    def reduced(self, u):
        """Return f(u, v*(u))."""
        return self.upper([u], [self.solution_of_lower(u)])
