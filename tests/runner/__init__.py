"""What tests/run is made of, beside the stages: how fast this machine is, who goes next, and what a failure was."""
