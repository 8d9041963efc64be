"""Tables -> figures: the only place that imports plotting (matplotlib, with the extra `report`)."""
