"""Rules over facts, in Datalog with confidence: conclusions with proofs that can be checked without the engine.

`read_rules` and `evaluate` conclude, `prove` writes the proof, `counterfactuals` what would have to be otherwise.
`ml.reasoning.checker` replays proofs and shares no code with these: import it by its own name.
"""

from ml.reasoning.counterfactuals import (
    ASKS_LESS,
    ASKS_MORE,
    AT_LEAST,
    BELOW,
    FOUND,
    WITHOUT,
    Change,
    Counterfactual,
    Search,
    apply_changes,
    find_counterfactuals,
)
from ml.reasoning.engine import (
    DOES_NOT_HOLD,
    HOLDS,
    NOT_EXAMINED,
    Answer,
    Conclusions,
    Fact,
    FactBase,
    FactsError,
    Limits,
    Pattern,
    TooMuch,
    evaluate,
)
from ml.reasoning.language import Program, RuleError, RulesError, read_rules
from ml.reasoning.proofs import prove, told

__all__ = [
    "ASKS_LESS",
    "ASKS_MORE",
    "AT_LEAST",
    "BELOW",
    "DOES_NOT_HOLD",
    "FOUND",
    "HOLDS",
    "NOT_EXAMINED",
    "WITHOUT",
    "Answer",
    "Change",
    "Conclusions",
    "Counterfactual",
    "Fact",
    "FactBase",
    "FactsError",
    "Limits",
    "Pattern",
    "Program",
    "RuleError",
    "RulesError",
    "Search",
    "TooMuch",
    "apply_changes",
    "evaluate",
    "find_counterfactuals",
    "prove",
    "read_rules",
    "told",
]
