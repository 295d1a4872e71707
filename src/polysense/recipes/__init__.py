"""Whole trainings by config: what `accelerate launch training/*/train.py` and `polysense train` run."""
