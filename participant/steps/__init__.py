"""What an agent does about a study, one module for each thing the coordinator's task may ask."""
