"""One case, looked at with models of this site's studies: probabilities, grade, heat map. Nothing of it leaves."""
