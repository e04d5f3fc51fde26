"""Pages to open in a browser: charts, and the templates that show them."""
