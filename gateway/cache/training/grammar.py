"""Pairs of questions whose sameness follows from grammar: voice, order, logic, time, reference, irrelevant words.

The phenomena are those of behavioural test suites. Several templates are CheckList's (Ribeiro et al. 2020, MIT License,
Copyright (c) 2020 Marco Tulio Correia Ribeiro), filled from this project's own pools. Each rule yields `(a, b, same)`.
"""

from gateway.cache.training import grammar_order, grammar_roles, grammar_sense, rules

RULES: dict[str, rules.Rule] = {
    name: rule
    for module in (grammar_roles, grammar_sense, grammar_order)
    for name, rule in rules.RULES.items()
    if rule.__module__ == module.__name__
}
"""Every rule by its name; the draws depend on the order."""
