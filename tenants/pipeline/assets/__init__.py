"""One asset, or many alike: checked (`uploads`), stored (`services`, `bulk`), prepared and embedded by jobs."""
