"""Whether everything that the agent needs is there: one function a check, each with what to do."""
