"""Model cards: what a model is, where it came from, how good it was found to be, and how its files are loaded.

They say what the coordinator's page of a model says, in the same words (coordinator/web/templates/model.html).
"""
