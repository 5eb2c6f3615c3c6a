"""How useful a tuned model is: the same shape as attacks, with no adversary. One file per measurement."""
