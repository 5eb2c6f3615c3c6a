"""Estimates from scores, with honest intervals: pure numpy and scipy, no torch, no files.

`roc` ranks members against nonmembers, `delong` gives AUC and its lift over the base model with
intervals, `interval` holds intervals for rates and means and pools over seeds, `groups` resamples
copies together, `null` permutes the labels. Higher scores always mean "more likely trained on".
"""
