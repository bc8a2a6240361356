"""Speed, beside peers. Each module ends with one line of JSON; see README.md."""
