"""Pictures and tensors exactly as Viam's vision service ``mlmodel`` treats them.

Plain functions over arrays; who runs the model is not here. Where Viam's own rules give
wrong or random answers, these do not follow; each docstring says so.

``nbmodel.vision`` looks at pictures for people: upright, resized by Pillow, boxes in parts
of a pixel, classes by index. Clients of Viam are owed Viam's own numbers, so pictures stay
as they were sent, the resize is Go's to the bit, and boxes are whole pixels. So each has a
decoder of its own; what tells a model's outputs apart (``vision.detect.Roles``), what
quantised numbers mean and how labels are found (``vision.output``) is shared.

Source: viamrobotics/rdk ``services/vision/mlvision``, ``ml``, ``vision``.
"""
