"""What runs in the process of a Python model: the standard library, numpy, and nothing of ours.

The process may have another environment, in which nbmodel is not installed, so these modules
import each other by where they are.
"""
