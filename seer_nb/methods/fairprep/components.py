"""Components by name, and the settings that are made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb._utils.text import short_repr
from seer_nb.methods.fairprep.encoding import NamedScaler, minmax, standard
from seer_nb.methods.fairprep.learners import decision_tree, logistic_regression
from seer_nb.methods.fairprep.missing_values import CompleteCase, Learned, Mode
from seer_nb.methods.fairprep.postprocessing import (
    CalibratedEqualizedOdds,
    EqualizedOdds,
    NoPostProcessing,
    RejectOption,
)
from seer_nb.methods.fairprep.preprocessing import DisparateImpactRemover, NoPreProcessing, Reweighing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class Setting(NamedTuple):
    """Names of the components of a lifecycle."""

    handler: str
    scaler: str
    preprocessor: str
    learner: str
    postprocessor: str


class Kind(NamedTuple):
    """What components of one kind are called, and must be able to do."""

    method: str
    by_name: Mapping[str, Callable[[], Any]]


KINDS: dict[str, Kind] = {
    "handlers": Kind(
        "fit",
        {
            "complete_case": CompleteCase,
            "mode": Mode,
            "iterative": lambda: Learned("iterative"),
            "knn": lambda: Learned("knn"),
        },
    ),
    "scalers": Kind(
        "make",
        {
            "none": lambda: NamedScaler("none"),
            "standard": lambda: NamedScaler("standard", standard),
            "minmax": lambda: NamedScaler("minmax", minmax),
        },
    ),
    "preprocessors": Kind(
        "fit",
        {
            "none": NoPreProcessing,
            "reweighing": Reweighing,
            "di_remover_0.5": lambda: DisparateImpactRemover(0.5),
            "di_remover_1": DisparateImpactRemover,
        },
    ),
    "learners": Kind(
        "choose",
        {
            "logistic_regression": logistic_regression,
            "logistic_regression_tuned": lambda: logistic_regression(tuned=True),
            "decision_tree": decision_tree,
            "decision_tree_tuned": lambda: decision_tree(tuned=True),
        },
    ),
    "postprocessors": Kind(
        "fit",
        {
            "none": NoPostProcessing,
            "reject_option": RejectOption,
            "equalized_odds": EqualizedOdds,
            "calibrated_equalized_odds": CalibratedEqualizedOdds,
        },
    ),
}


def components(given: Any, argument: str) -> dict[str, Any]:
    """Components by their names, in order.

    Args:
        given: A list of names, and of objects of one's own.
        argument: One of KINDS.

    Raises:
        TypeError: It is no list, or an object cannot do what such a component must.
        ValueError: A name is unknown, or comes twice; or the list is empty.
    """
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise TypeError(
            f"{argument}={short_repr(given)} is not a list: give one, such as "
            f"{argument}={[*KINDS[argument].by_name][:2]}"
        )
    found: dict[str, Any] = {}
    for place, each in enumerate(given):
        part = component(each, argument, f"{argument}[{place}]")
        if part.name in found:
            raise ValueError(
                f"{argument}[{place}] is called {part.name!r} like one before it: give each a name of its own"
            )
        found[part.name] = part
    if not found:
        raise ValueError(f"{argument}={short_repr(given)} is empty: give at least one")
    return found


def component(given: Any, argument: str, where: str) -> Any:
    """One component, by its name or as an object.

    Raises:
        TypeError, ValueError: As for ``components``.
    """
    kind = KINDS[argument]
    if isinstance(given, str):
        if given not in kind.by_name:
            raise ValueError(
                f"{where}={short_repr(given)} is unknown: give one of {', '.join(map(repr, kind.by_name))}"
            )
        return kind.by_name[given]()
    if not isinstance(getattr(given, "name", None), str) or not callable(getattr(given, kind.method, None)):
        raise TypeError(
            f"{where}={short_repr(given)} is neither a name nor an object with name and {kind.method}(): give one of "
            f"{', '.join(map(repr, kind.by_name))}, or such an object"
        )
    return given


class Interventions(NamedTuple):
    """Pre- and post-processors by name, and which of the latter follow which of the former."""

    preprocessors: dict[str, Any]
    postprocessors: dict[str, Any]
    after: dict[str, tuple[str, ...]]

    @classmethod
    def product(cls, preprocessors: Any, postprocessors: Any) -> Interventions:
        """Each of the latter after each of the former."""
        pre, post = components(preprocessors, "preprocessors"), components(postprocessors, "postprocessors")
        return cls(pre, post, dict.fromkeys(pre, tuple(post)))

    @classmethod
    def pairs(cls, given: Any) -> Interventions:
        """Pairs of both.

        Raises:
            TypeError, ValueError: As for ``components``; or a pair is none, or comes twice.
        """
        pre: dict[str, Any] = {}
        post: dict[str, Any] = {}
        after: dict[str, list[str]] = {}
        for place, (first, second) in enumerate(_pairs(given)):
            one = component(first, "preprocessors", f"interventions[{place}][0]")
            other = component(second, "postprocessors", f"interventions[{place}][1]")
            pre.setdefault(one.name, one)
            post.setdefault(other.name, other)
            if other.name in after.setdefault(one.name, []):
                raise ValueError(
                    f"interventions[{place}]={short_repr((first, second))} comes twice: give each pair once"
                )
            after[one.name].append(other.name)
        return cls(pre, post, {name: tuple(names) for name, names in after.items()})


def _pairs(given: Iterable[Any]) -> list[tuple[Any, Any]]:
    hint = 'give a list of pairs (preprocessor, postprocessor), such as [("none", "none"), ("reweighing", "none")]'
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise TypeError(f"interventions={short_repr(given)} is not a list: {hint}")
    found = list(given)
    if not found:
        raise ValueError(f"interventions={short_repr(given)} is empty: {hint}")
    for place, pair in enumerate(found):
        if not isinstance(pair, list | tuple) or len(pair) != 2:  # noqa: PLR2004 - a pair
            raise TypeError(f"interventions[{place}]={short_repr(pair)} is not a pair: {hint}")
    return [(pair[0], pair[1]) for pair in found]
