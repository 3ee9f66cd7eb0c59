"""Registry of the components of a lifecycle by name, and checks of the components that a user passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from seer_nb._utils.text import short_repr
from seer_nb.methods.fairprep.encoding import NamedScaler, minmax, standard
from seer_nb.methods.fairprep.learners import decision_tree, logistic_regression
from seer_nb.methods.fairprep.missing_values import CompleteCase, LearnedImputer, Mode
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
    """Names of the five components of a lifecycle."""

    handler: str
    """Handler of missing values."""
    scaler: str
    """Scaler of numeric features."""
    preprocessor: str
    """Intervention before learning."""
    learner: str
    """Learner."""
    postprocessor: str
    """Intervention after learning."""


class ComponentKind(NamedTuple):
    """A kind of component."""

    method: str
    """Method that each component of this kind must have."""
    by_name: Mapping[str, Callable[[], Any]]
    """Factory of each built-in component."""


KINDS: dict[str, ComponentKind] = {
    "handlers": ComponentKind(
        "fit",
        {
            "complete_case": CompleteCase,
            "mode": Mode,
            "iterative": lambda: LearnedImputer("iterative"),
            "knn": lambda: LearnedImputer("knn"),
        },
    ),
    "scalers": ComponentKind(
        "make",
        {
            "none": lambda: NamedScaler("none"),
            "standard": lambda: NamedScaler("standard", standard),
            "minmax": lambda: NamedScaler("minmax", minmax),
        },
    ),
    "preprocessors": ComponentKind(
        "fit",
        {
            "none": NoPreProcessing,
            "reweighing": Reweighing,
            "di_remover_0.5": lambda: DisparateImpactRemover(0.5),
            "di_remover_1": DisparateImpactRemover,
        },
    ),
    "learners": ComponentKind(
        "choose",
        {
            "logistic_regression": logistic_regression,
            "logistic_regression_tuned": lambda: logistic_regression(tuned=True),
            "decision_tree": decision_tree,
            "decision_tree_tuned": lambda: decision_tree(tuned=True),
        },
    ),
    "postprocessors": ComponentKind(
        "fit",
        {
            "none": NoPostProcessing,
            "reject_option": RejectOption,
            "equalized_odds": EqualizedOdds,
            "calibrated_equalized_odds": CalibratedEqualizedOdds,
        },
    ),
}
"""Kinds of components, by the argument of ``Experiment`` that takes them."""


def read_components(given: Any, argument: str) -> dict[str, Any]:
    """Return components by name, in the order given.

    Args:
        given: List of names and of the user's own components.
        argument: Name of the argument, a key of ``KINDS``.

    Raises:
        TypeError: ``given`` is not a list, or a component lacks the required method.
        ValueError: A name is unknown or occurs twice, or the list is empty.
    """
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise TypeError(
            f"{argument}={short_repr(given)}: not a list; expected one such as {[*KINDS[argument].by_name][:2]}"
        )
    found: dict[str, Any] = {}
    for index, each in enumerate(given):
        component = read_component(each, argument, f"{argument}[{index}]")
        if component.name in found:
            raise ValueError(f"{argument}[{index}]: duplicate name {component.name!r}; expected distinct names")
        found[component.name] = component
    if not found:
        raise ValueError(f"{argument}={short_repr(given)}: empty; expected at least one component")
    return found


def read_component(given: Any, argument: str, name: str) -> Any:
    """Return one component.

    Args:
        given: Name of a built-in component, or the user's own component.
        argument: A key of ``KINDS``.
        name: Name of the value, for error messages.

    Raises:
        TypeError: The component lacks the required method.
        ValueError: The name is unknown.
    """
    kind = KINDS[argument]
    known = ", ".join(map(repr, kind.by_name))
    if isinstance(given, str):
        if given not in kind.by_name:
            raise ValueError(f"{name}={short_repr(given)}: unknown; expected one of {known}")
        return kind.by_name[given]()
    if not isinstance(getattr(given, "name", None), str) or not callable(getattr(given, kind.method, None)):
        raise TypeError(
            f"{name}={short_repr(given)}: neither a name nor an object with name and {kind.method}(); expected one of "
            f"{known}, or such an object"
        )
    return given


class Interventions(NamedTuple):
    """Pre- and post-processors by name, and the combinations to run."""

    preprocessors: dict[str, Any]
    """Pre-processors by name."""
    postprocessors: dict[str, Any]
    """Post-processors by name."""
    combinations: dict[str, tuple[str, ...]]
    """Names of the post-processors to run after each pre-processor."""

    @classmethod
    def from_product(cls, preprocessors: Any, postprocessors: Any) -> Interventions:
        """Combine each pre-processor with each post-processor.

        Raises:
            TypeError, ValueError: As for ``read_components``.
        """
        pre = read_components(preprocessors, "preprocessors")
        post = read_components(postprocessors, "postprocessors")
        return cls(pre, post, dict.fromkeys(pre, tuple(post)))

    @classmethod
    def from_pairs(cls, given: Any) -> Interventions:
        """Take a list of pairs (preprocessor, postprocessor).

        Raises:
            TypeError, ValueError: As for ``read_components``; also if an item is not a pair, or occurs twice.
        """
        pre: dict[str, Any] = {}
        post: dict[str, Any] = {}
        combinations: dict[str, list[str]] = {}
        for index, (first, second) in enumerate(_check_pairs(given)):
            one = read_component(first, "preprocessors", f"interventions[{index}][0]")
            other = read_component(second, "postprocessors", f"interventions[{index}][1]")
            pre.setdefault(one.name, one)
            post.setdefault(other.name, other)
            if other.name in combinations.setdefault(one.name, []):
                raise ValueError(
                    f"interventions[{index}]={short_repr((first, second))}: duplicate; expected distinct pairs"
                )
            combinations[one.name].append(other.name)
        return cls(pre, post, {name: tuple(names) for name, names in combinations.items()})


def _check_pairs(given: Iterable[Any]) -> list[tuple[Any, Any]]:
    expected = (
        'expected a list of pairs (preprocessor, postprocessor), such as [("none", "none"), ("reweighing", "none")]'
    )
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise TypeError(f"interventions={short_repr(given)}: not a list; {expected}")
    found = list(given)
    if not found:
        raise ValueError(f"interventions={short_repr(given)}: empty; {expected}")
    for index, pair in enumerate(found):
        if not isinstance(pair, list | tuple) or len(pair) != 2:  # noqa: PLR2004 - a pair
            raise TypeError(f"interventions[{index}]={short_repr(pair)}: not a pair; {expected}")
    return [(pair[0], pair[1]) for pair in found]
