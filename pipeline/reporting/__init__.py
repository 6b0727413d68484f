"""The report of a run: its tables, figures and pictures, and one description of them, rendered as Markdown and HTML."""
