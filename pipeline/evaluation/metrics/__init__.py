"""Figures from verdicts, scores and findings: pure functions.

What scikit-learn has, it does: areas under curves, curves, precision and recall. What it does not have is here, and tested against
independent implementations: which finding finds which object, and average precision over that.
"""
