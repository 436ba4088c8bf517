"""What all benchmarks that vla-eval plays have in common: their options, and who may play."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from vipa.benchmarks.vla_eval_run import Entry, HarnessResult, HarnessRun, look, play
from vipa.io.progress import counter
from vipa.robots.contract import ActionContract
from vipa.robots.playing import BlankImages, Policy


@dataclass(frozen=True, kw_only=True)
class HarnessSettings:
    """Lets a policy act in a simulator through vla-eval and counts successes, with rollout videos."""

    model: Positional[str] = ""
    """A folder after stage 3, or a name on the hub; none with --server."""
    out: Path
    """Folder of results; a run that was stopped continues, with any number of processes."""
    python: str = ""
    """The Python of the simulator's own environment, which has vla-eval; or a command that ends in one."""
    server: str = ""
    """Address (ws://host:port) of a running policy, ours or another's, instead of MODEL."""
    protocol: Literal["vla-eval", "openpi"] = "vla-eval"
    """What the server speaks."""
    episodes: int = 50
    """Of each task."""
    processes: int = 1
    """Simulators at once."""
    render: Literal["cpu", "gpu"] = "cpu"
    """Where the simulator's pictures are made."""
    videos: int = 3
    """Rollouts filmed per task."""
    execute: int = 4
    """Steps of a chunk before the next."""
    blank: bool = False
    """Cover the cameras, for comparison."""
    differences: tuple[str, ...] = ()
    """What is not the published protocol in this simulator, in words: for the record, and beside published figures."""
    anew: bool = False
    """Begin again where OUT holds other episodes."""


def evaluate(
    settings: HarnessSettings,
    name: str,
    entries: tuple[Entry, ...],
    contract: ActionContract,
    *,
    policy: Policy | None = None,
    server: Callable[[Policy, int], Any] | None = None,
    rules: dict[str, Any] | None = None,
) -> HarnessResult:
    """The settings' player on these entries.

    contract: of the simulator's robot, with all its views. policy: instead of the settings' model. server: makes the
    server of a policy and of how much of a chunk is played. rules: see `HarnessRun`.

    ValueError, one line, where something is missing or does not fit, before anything is played.
    """
    if bool(settings.model) == bool(settings.server):
        raise ValueError("say MODEL or --server ADDRESS, one of them")
    run = HarnessRun(
        settings.out,
        name,
        settings.model or settings.server,
        entries,
        settings.python,
        episodes=settings.episodes,
        rules={
            "contract": contract.summary(),
            "execute": settings.execute,
            "differences": list(settings.differences),
            **(rules or {}),
        },
        processes=settings.processes,
        render=settings.render,
        videos=settings.videos,
        rate=round(contract.rate),
        raw_images=not settings.server,
        anew=settings.anew,
    )
    simulator = look(run)
    playing = _player(settings, contract, policy, server)
    with playing as (url, identity), counter("acting", "episodes") as count:
        return play(run, url, identity, simulator, lambda done, total: count(done=done, total=total))


@contextmanager
def _player(
    settings: HarnessSettings,
    contract: ActionContract,
    policy: Policy | None,
    server: Callable[[Policy, int], Any] | None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Address and identity of who plays."""
    if settings.server and settings.protocol == "vla-eval":
        yield settings.server, {"server": settings.server}
        return
    try:
        from vipa.robots.serving.vla_eval_server import PolicyModelServer, serving
    except ModuleNotFoundError as error:
        raise ValueError(f"{error}: a policy is served through vla-eval; pip install 'vipa[vla-eval]'") from None
    if settings.server:
        from vipa.robots.serving.openpi_client import OpenpiPolicy

        policy = OpenpiPolicy(settings.server, contract)
    elif policy is None:
        from vipa.robots.policy import VipaPolicy

        policy = VipaPolicy.from_pretrained(settings.model)
    views = policy.contract.views
    if unknown := [view for view in views if view not in contract.views]:
        raise ValueError(
            f"{settings.model}: sees {', '.join(unknown)}; the simulator has {', '.join(contract.views)}"
        )
    policy.contract.check(replace(contract, views=views, keys={}))
    player = BlankImages(policy) if settings.blank else policy
    execute = min(settings.execute, policy.contract.horizon)
    with serving((server or PolicyModelServer)(player, execute)) as url:
        yield url, player.identity
