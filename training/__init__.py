"""What train.py is made of: state and curves, schedules, the loss terms of both models, the first order of surfaces."""
