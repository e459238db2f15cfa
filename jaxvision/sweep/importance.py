"""Estimates which parameters of a space decide whether a trial is among the best."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna import distributions

from jaxvision.sweep import space as spaces
from jaxvision.sweep.space import Domain, Integers, LogUniform, Uniform

LEAST = 20  # fewest trials that give an estimate
_AMONG_BEST = 5  # fewest trials among "the best" that give a density


def shares(
    domains: Mapping[str, Domain], points: Sequence[Mapping[str, Any]], values: Sequence[float], maximize: bool
) -> dict[str, float]:
    """Computes the importance of each key, the largest first; the importances sum to 1.

    A key is important if its values among the best tenth of the trials (at least five) are distributed differently than
    among all trials: the measure is the Pearson divergence of two kernel densities. It is estimated where the search
    sampled, so if a search settled on one value early, that key looks unimportant.

    Args:
      domains: Domain of each key that is searched.
      points: Values of each complete trial, at least `LEAST` trials; an inactive key is missing.
      values: Values of the objective, one for each trial.
      maximize: True if large values are good.

    Source: PED-ANOVA, Watanabe, Bansal, Hutter 2023, arXiv 2304.10255, as in Optuna.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # otherwise it logs every new study
    distributions = {key: _distribution(domain) for key, domain in domains.items()}
    study = optuna.create_study(
        direction="maximize" if maximize else "minimize", sampler=optuna.samplers.RandomSampler()
    )
    for point, value in zip(points, values):
        active = {key: distribution for key, distribution in distributions.items() if key in point}
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
        return distributions.FloatDistribution(domain.low, domain.high, log=isinstance(domain, LogUniform))
    if isinstance(domain, Integers):
        return distributions.IntDistribution(*domain)
    return distributions.CategoricalDistribution([str(value) for value in domain.values])


def _value(domain: Domain, value: Any) -> Any:
    return value if isinstance(spaces.inner(domain), Uniform | LogUniform | Integers) else str(value)
