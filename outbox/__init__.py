"""Judges what is to leave, then delivers it: at most once, in order, and honest about what nobody can know."""
