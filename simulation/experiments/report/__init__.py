"""From the values of an experiment's units to a folder that a person can share: HTML, Markdown, CSV and PNG."""
