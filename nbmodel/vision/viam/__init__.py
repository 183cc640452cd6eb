"""Pictures and tensors exactly as Viam's vision service ``mlmodel`` treats them.

Plain functions over arrays; who runs the model is not here. Where Viam's own rules give
wrong or random answers, these do not follow; each docstring says so.

Source: viamrobotics/rdk ``services/vision/mlvision``, ``ml``, ``vision``.
"""
