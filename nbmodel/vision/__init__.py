"""Pictures to tensors, and tensors back to what a person sees in them.

Plain functions over arrays and Pillow images. Nothing here loads a model, talks to a
runtime, or knows a notebook.
"""
