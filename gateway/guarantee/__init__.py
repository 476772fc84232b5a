"""What an error rate that the operator states means, and how a threshold earns it. See docs/guarantees.md.

Pure: no I/O, no clock, no environment. `bounds` and `certify` import numpy; `certificate`, `monitor`, `drift` and
`sampling`, which serving needs, do not.
"""
