"""The local page: what the agent does, and a case looked at with its models. Only this package answers over HTTP."""
