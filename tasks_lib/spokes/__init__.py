"""Sessions on other machines: the run's side (`hub`) and the side of the machine that they run on (`machine`)."""
