"""A physical generator of printed parts: layers with an inherent strain on a plate, heat, cooling and release."""
