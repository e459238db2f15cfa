"""Which parameters of a space matter for being among the best trials."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna import distributions

from jaxvision.sweep import space as spaces
from jaxvision.sweep.space import Domain, Integers, LogUniform, Uniform

LEAST = 20  # trials
_AMONG_BEST = 5  # trials that "the best" must hold, for a density of them to mean something


def shares(domains: Mapping[str, Domain], points: Sequence[Mapping[str, Any]], values: Sequence[float], maximize: bool):
    """Importance of each key, dict[str, float], the largest first; they sum to 1.

    A key matters as far as its values among the best tenth of the trials (at least five) are spread otherwise than
    among all: the Pearson divergence of two kernel densities. It is judged where the search went, so a search that
    settled on one value early finds that key unimportant.

    Args:
      domains: of the keys that are searched.
      points: the values of each complete trial, at least `LEAST`; an inactive key is missing.
      values: of the objective, one a trial.
      maximize: whether large values are good.

    Source: PED-ANOVA, Watanabe, Bansal, Hutter 2023, arXiv 2304.10255, as in Optuna.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it tells of every study otherwise
    distributions = {key: _distribution(domain) for key, domain in domains.items()}
    study = optuna.create_study(
        direction="maximize" if maximize else "minimize", sampler=optuna.samplers.RandomSampler()
    )
    for point, value in zip(points, values):
        active = {key: of for key, of in distributions.items() if key in point}
        study.add_trial(
            optuna.trial.create_trial(
                params={key: _value(domains[key], point[key]) for key in active}, distributions=active, value=value
            )
        )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=max(0.1, _AMONG_BEST / len(points)))
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _distribution(domain: Domain):
    domain = spaces.inner(domain)
    if isinstance(domain, Uniform | LogUniform):
        return distributions.FloatDistribution(*domain, log=isinstance(domain, LogUniform))
    if isinstance(domain, Integers):
        return distributions.IntDistribution(*domain)
    return distributions.CategoricalDistribution([str(value) for value in domain.values])


def _value(domain: Domain, value: Any) -> Any:
    return value if isinstance(spaces.inner(domain), Uniform | LogUniform | Integers) else str(value)
