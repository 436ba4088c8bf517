"""Rotations of many frames from rotations between pairs of them: the average that disagrees least."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vipa.geometry.rotations import axis_angle_from_matrix, matrix_from_axis_angle


@dataclass(frozen=True)
class Link:
    """R_i_j between nodes i and j, and the covariance (radians^2, in i's frame) of the rotation by which it may err."""

    i: int
    j: int
    R_i_j: Float[np.ndarray, "3 3"]
    covariance: Float[np.ndarray, "3 3"]


def average_rotations(
    count: int, links: Sequence[Link], rounds: int = 15
) -> tuple[Float[np.ndarray, "n 3 3"], Int[np.ndarray, "n"]]:
    """(R_world_node, the number of the part that each node belongs to), from links between `count` nodes.

    A spanning tree of the surest links starts it, then weighted least squares, in which links that disagree with the
    others count less (Cauchy's weights). Nodes that no links join are of different parts, each with its own world.
    """
    R, part = _spanning_tree(count, links)
    free = np.array([k for k in range(count) if (part[:k] == part[k]).any()], int)
    if not len(free):
        return R, part
    place = np.full(count, -1)
    place[free] = np.arange(len(free))
    i, j = (np.array([getattr(link, end) for link in links]) for end in "ij")
    R_i_j = np.stack([link.R_i_j for link in links])
    information = np.linalg.inv(np.stack([link.covariance for link in links]))
    size = len(free) + 1  # of what is not free, the last block is thrown away
    for _ in range(rounds):
        # in the world: R_j = exp(e) R_i R_i_j with e the error, to first order e_j - e_i
        e = axis_angle_from_matrix(R[j] @ (R[i] @ R_i_j).mT)
        W = R[i] @ information @ R[i].mT
        W /= (1 + np.einsum("la,lab,lb->l", e, W, e) / 9)[:, None, None]
        pull, normal, right = (W @ e[..., None])[..., 0], np.zeros((size, size, 3, 3)), np.zeros((size, 3))
        for a, sign_a in ((i, -1), (j, 1)):
            np.add.at(right, place[a], -sign_a * pull)
            for b, sign_b in ((i, -1), (j, 1)):
                np.add.at(normal, (place[a], place[b]), sign_a * sign_b * W)
        normal = normal[:-1, :-1].swapaxes(1, 2).reshape(3 * len(free), -1)
        step = np.linalg.solve(normal, right[:-1].ravel()).reshape(-1, 3)
        R[free] = matrix_from_axis_angle(step) @ R[free]
        if np.abs(step).max() < 1e-7:
            break
    return R, part


def _spanning_tree(count: int, links: Sequence[Link]) -> tuple[np.ndarray, np.ndarray]:
    """(rotations, part numbers): links are taken in the order of their certainty, each joins two parts or is left."""
    R, part = np.tile(np.eye(3), (count, 1, 1)), np.arange(count)
    for link in sorted(links, key=lambda link: float(np.trace(link.covariance))):
        i, j = link.i, link.j
        if part[i] == part[j]:
            continue
        moved = part == part[j]
        R[moved] = (R[i] @ link.R_i_j @ R[j].T) @ R[moved]
        part[moved] = part[i]
    _, part = np.unique(part, return_inverse=True)
    return R, part
