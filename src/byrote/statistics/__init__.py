"""Estimates from scores, with honest intervals: pure numpy and scipy, no torch, no files.

`roc` ranks members against nonmembers, `delong` gives AUC and its lift over the base model with
intervals, `partial` the AUC at low false-positive rates and `accuracy` that of a yes or no; `interval`
holds intervals for rates and means and pools over seeds, `groups` resamples copies together, `null`
permutes the labels, `set_level` tests a whole set, and `comparison` judges many intervals at once, or
one against a margin. `exposure` says how well canaries are known, and `epsilon` (with `one_run` and
`gaussian`) what they prove about the privacy of a training. Higher scores always mean "more likely
trained on"; nothing is folded at chance.
"""
